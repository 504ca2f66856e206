//! Values that come at one end and go at the other, in one piece: who reads them has a slice.

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Queue<T> {
    /// With those that have gone, as long as they are fewer than the others.
    all: Vec<T>,
    gone: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { all: Vec::new(), gone: 0 }
    }
}

impl<T> std::ops::Deref for Queue<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.all[self.gone..]
    }
}

impl<T> Extend<T> for Queue<T> {
    #[inline]
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        self.all.extend(values);
    }
}

impl<T: Copy> Queue<T> {
    #[inline]
    pub(crate) fn extend_from_slice(&mut self, values: &[T]) {
        self.all.extend_from_slice(values);
    }
}

impl<T> Queue<T> {
    /// The first values go.
    #[inline]
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.gone += count;
        if 2 * self.gone >= self.all.len() {
            self.all.drain(..self.gone);
            self.gone = 0;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.all.clear();
        self.gone = 0;
    }

    pub(crate) fn capacity(&self) -> usize {
        self.all.capacity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a queue, and holds at most twice what is in it.
        #[test]
        fn behaves_as_a_queue(steps in prop::collection::vec((0usize..20, 0usize..20), 0..40)) {
            let (mut queue, mut expected) = (Queue::<usize>::default(), VecDeque::new());
            for (add, remove) in steps {
                queue.extend(0..add);
                expected.extend(0..add);
                let remove = remove.min(expected.len());
                queue.drop_front(remove);
                expected.drain(..remove);
                prop_assert_eq!(&queue[..], expected.make_contiguous());
                prop_assert!(queue.all.len() <= 2 * expected.len());
            }
        }
    }
}
