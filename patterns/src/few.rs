//! A vector whose first few values need no memory of their own: most partitions have few rows under way, and there are many partitions.

/// Up to `N` values in place; more are elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Few<T, const N: usize> {
    here: [T; N],
    here_len: u8,
    /// Where all values are, if it has a capacity.
    elsewhere: Vec<T>,
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { here: [T::default(); N], here_len: 0, elsewhere: Vec::new() }
    }
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[T] {
        if self.elsewhere.capacity() == 0 { &self.here[..self.here_len.into()] } else { &self.elsewhere }
    }

    #[inline]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        if self.elsewhere.capacity() == 0 { &mut self.here[..self.here_len.into()] } else { &mut self.elsewhere }
    }

    #[inline]
    pub(crate) fn extend_from_slice(&mut self, values: &[T]) {
        let len = usize::from(self.here_len);
        if self.elsewhere.capacity() == 0 {
            if let Some(place) = self.here.get_mut(len..len + values.len()) {
                place.copy_from_slice(values);
                self.here_len += values.len() as u8;
                return;
            }
            self.elsewhere.reserve((len + values.len()).max(2 * N));
            self.elsewhere.extend_from_slice(&self.here[..len]);
            self.here_len = 0;
        }
        self.elsewhere.extend_from_slice(values);
    }

    /// Touches the memory that it is in.
    #[inline]
    pub(crate) fn look_ahead(&self) -> u64
    where
        T: Into<u64>,
    {
        let elsewhere = self.elsewhere.first().map_or(0, |value| (*value).into());
        self.here[0].into() ^ self.here[N / 2].into() ^ self.here[N - 1].into() ^ elsewhere
    }

    /// Makes it so long; new values are the default.
    #[inline]
    pub(crate) fn resize(&mut self, len: usize) {
        if self.elsewhere.capacity() == 0 && len <= N {
            self.here[len.min(self.here_len.into())..].fill(T::default());
            self.here_len = len as u8;
            return;
        }
        if self.elsewhere.capacity() == 0 {
            self.extend_from_slice(&[]);
            self.elsewhere.reserve(len.max(2 * N));
            self.elsewhere.extend_from_slice(&self.here[..self.here_len.into()]);
            self.here_len = 0;
        }
        self.elsewhere.resize(len, T::default());
    }

    /// Removes the first values, and gives memory back that is far more than what is left needs.
    pub(crate) fn remove_front(&mut self, count: usize) {
        if self.elsewhere.capacity() == 0 {
            let len = usize::from(self.here_len);
            self.here.copy_within(count..len, 0);
            self.here_len -= count as u8;
            return;
        }
        self.elsewhere.drain(..count);
        let len = self.elsewhere.len();
        if len <= N {
            self.here[..len].copy_from_slice(&self.elsewhere);
            self.here_len = len as u8;
            self.elsewhere = Vec::new();
        } else if self.elsewhere.capacity() > 8 * len {
            self.elsewhere.shrink_to(2 * len);
        }
    }

    /// Bytes elsewhere.
    pub(crate) fn bytes(&self) -> usize {
        self.elsewhere.capacity() * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a vector, whether its values are here or elsewhere.
        #[test]
        fn behaves_as_a_vector(steps in prop::collection::vec((0u8..3, 0usize..40), 0..40)) {
            let (mut few, mut vector) = (Few::<u8, 8>::default(), Vec::<u8>::new());
            for (step, count) in steps {
                match step {
                    0 => {
                        let values: Vec<u8> = (0..count as u8).collect();
                        few.extend_from_slice(&values);
                        vector.extend_from_slice(&values);
                    }
                    1 => {
                        few.resize(count);
                        vector.resize(count, 0);
                    }
                    _ => {
                        let count = count.min(vector.len());
                        few.remove_front(count);
                        vector.drain(..count);
                    }
                }
                prop_assert_eq!(few.as_slice(), &vector);
                prop_assert_eq!(few.as_mut_slice(), &vector);
            }
        }
    }
}
