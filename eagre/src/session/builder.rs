//! How a session is made.

use std::sync::{Arc, Mutex};

use eagre_connectors::Environment;
use eagre_engine::checkpoint::CheckpointStore;
use eagre_engine::runtime::Clock;
use eagre_engine::settings::{self, Settings};
use eagre_engine::thread::DEEP_STACK_BYTES;
use eagre_sql::catalog::Catalog;

use super::{Inner, Session, State, apply_settings};
use crate::clock::SystemClock;
use crate::config;
use crate::device::DeviceLog;
use crate::error::{Error, Result};
use crate::provider::Providers;
use crate::state;

/// Builds a [`Session`].
#[derive(Default)]
pub struct SessionBuilder {
    settings: Settings,
    changes: Vec<(String, String)>,
    state: Option<String>,
    fresh: bool,
    clock: Option<Arc<dyn Clock>>,
    store: Option<Arc<dyn CheckpointStore>>,
    environment: Option<Environment>,
    abort_after_step: Option<u64>,
    replay: bool,
    device_log: Option<DeviceLog>,
    progress_log: Option<DeviceLog>,
}

impl SessionBuilder {
    /// Starts from these settings (from [`crate::config::load`], say) and not from the defaults.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Changes a setting, by the name that `SET` uses.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.changes.push((name.into(), value.into()));
        self
    }

    /// A folder or object store URL for checkpoints: a pipeline that is started again goes on where its last checkpoint was.
    pub fn state(mut self, location: impl Into<String>) -> Self {
        self.state = Some(location.into());
        self
    }

    /// Forgets what the state folder holds.
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Time from elsewhere, for simulations.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checkpoints in a store of the caller's (in memory, for simulations).
    pub fn store(mut self, store: Arc<dyn CheckpointStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Standard streams and object stores from elsewhere.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Told, a line for each, of what happens to kernels that run on a device: that one was lost, and the CPU goes on, say.
    pub fn device_log(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.device_log = Some(Arc::new(log));
        self
    }

    /// Told, a line for each, of how far what takes long is: the training of a model, say.
    pub fn progress_log(mut self, log: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.progress_log = Some(Arc::new(log));
        self
    }

    /// Reads the journals of the state folder and never the live input behind them.
    pub(crate) fn replay(mut self) -> Self {
        self.replay = true;
        self
    }

    /// Fault injection: a pipeline vanishes after this step, as by `kill -9`.
    pub fn abort_after_step(mut self, step: u64) -> Self {
        self.abort_after_step = Some(step);
        self
    }

    /// The session.
    ///
    /// # Errors
    /// An unknown setting or wrong value; a state folder that cannot be opened.
    pub fn build(self) -> Result<Session> {
        let mut settings = self.settings;
        for (name, value) in &self.changes {
            config::set(&mut settings, name, value)?;
        }
        config::check_zone(settings.text(settings::SQL_TIME_ZONE))?;
        let io = tokio::runtime::Builder::new_multi_thread()
            .thread_stack_size(DEEP_STACK_BYTES)
            .worker_threads(2)
            .thread_name("eagre-io")
            .enable_all()
            .build()
            .map_err(|error| Error::File { path: "the io runtime".to_owned(), error })?;
        let run = run_name();
        let mut environment = self.environment.unwrap_or_else(|| {
            let variables = std::env::vars_os();
            let text =
                variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            Environment { object_store_options: config::object_store_options(text), ..Environment::new(&run) }
        });
        environment.runtime = Some(io.handle().clone());
        let store: Option<Arc<dyn CheckpointStore>> = match (self.store, &self.state) {
            (Some(store), _) => Some(store),
            (None, Some(location)) => {
                Some(Arc::new(eagre_connectors::ObjectCheckpointStore::open(location, &environment)?))
            }
            (None, None) => None,
        };
        environment.state_enabled = store.is_some();
        if let Some(store) = store.as_deref().filter(|_| !self.replay) {
            if self.fresh {
                state::forget(store)?;
            }
            // The name in the files that sinks write: the same after a restart on the same state.
            environment.pipeline_id = state::pipeline_name(store, &run)?;
        }
        let providers = Arc::new(Providers::new(environment, store.clone(), !self.replay));
        let mut catalog = Catalog::new(Arc::clone(&providers) as Arc<dyn eagre_sql::catalog::TableProviderFactory>);
        let device_log = self.device_log.unwrap_or_else(|| Arc::new(|_| {}));
        apply_settings(&settings, &device_log, &mut catalog);
        Ok(Session {
            inner: Arc::new(Inner {
                io: Some(io),
                clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::default())),
                store,
                run,
                abort_after_step: self.abort_after_step,
                views: Arc::default(),
                progress_log: self.progress_log.unwrap_or_else(|| Arc::new(|_| {})),
                state: Mutex::new(State {
                    catalog,
                    base: settings.clone(),
                    settings,
                    providers,
                    restored: false,
                    device_log,
                    definitions: Vec::new(),
                }),
            }),
        })
    }
}

/// A name that no other run has.
fn run_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hasher is seeded by the system's randomness.
    format!("{:016x}", std::hash::RandomState::new().build_hasher().finish())
}
