//! Tests over the test bed, for test binaries with a `main` of their own
//! (`harness = false`): named trials that run inside the namespace, over one cluster
//! that they share or each over its own.
//!
//! `STORNX_TESTBED=off` leaves all of them out: they are reported as ignored. Trials
//! that need a network namespace are ignored, with that reason, where there is none. A
//! missing Go or a failed build fails the binary with one message, before any trial.

use std::{error::Error, pin::Pin, process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{runtime::Runtime, sync::OnceCell};

use crate::{
    cluster::{Options, TestBed},
    mesh,
    namespace::{self, Place},
    programs::{self, Programs},
};

/// What a trial gives: any error fails it, as a panic does.
pub type TestResult = Result<(), Box<dyn Error + Send + Sync>>;

type Outcome = Pin<Box<dyn Future<Output = TestResult> + Send>>;
type Body<T> = Box<dyn FnOnce(T) -> Outcome + Send>;

/// Over what a trial runs.
enum Kind {
    /// The cluster that all such trials share: they keep to namespaces of their own and
    /// disturb no server.
    Shared(Body<Arc<TestBed>>),
    /// A cluster of its own.
    Own(Box<Options>, Body<Arc<TestBed>>),
    /// No cluster.
    Plain(Body<()>),
}

/// One named trial.
pub struct Test {
    name: &'static str,
    kind: Kind,
    needs_namespace: bool,
    needs_mesh: bool,
}

impl Test {
    /// A trial over the shared cluster.
    pub fn shared<F, R>(name: &'static str, body: F) -> Self
    where
        F: FnOnce(Arc<TestBed>) -> R + Send + 'static,
        R: Future<Output = TestResult> + Send + 'static,
    {
        Self::new(name, Kind::Shared(Box::new(|bed| Box::pin(body(bed)))))
    }

    /// A trial over a cluster of its own.
    pub fn own<F, R>(name: &'static str, options: Options, body: F) -> Self
    where
        F: FnOnce(Arc<TestBed>) -> R + Send + 'static,
        R: Future<Output = TestResult> + Send + 'static,
    {
        Self::new(name, Kind::Own(Box::new(options), Box::new(|bed| Box::pin(body(bed)))))
    }

    /// A trial without a cluster, inside the place of the test bed.
    pub fn plain<F, R>(name: &'static str, body: F) -> Self
    where
        F: FnOnce() -> R + Send + 'static,
        R: Future<Output = TestResult> + Send + 'static,
    {
        Self::new(name, Kind::Plain(Box::new(|()| Box::pin(body()))))
    }

    /// It is left out where pod addresses do not answer.
    #[must_use]
    pub fn needs_namespace(mut self) -> Self {
        self.needs_namespace = true;
        self
    }

    /// It needs istiod and Envoy, and so a network namespace.
    #[must_use]
    pub fn needs_mesh(mut self) -> Self {
        (self.needs_mesh, self.needs_namespace) = (true, true);
        self
    }

    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, needs_namespace: false, needs_mesh: false }
    }
}

impl std::fmt::Debug for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Test").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The shared cluster, once a trial asks for it; or why it did not start.
type Shared = Arc<OnceCell<Result<Arc<TestBed>, String>>>;

/// What all trials of a binary have in common.
#[derive(Clone)]
struct Common {
    runtime: Arc<Runtime>,
    options: Options,
    shared: Shared,
    place: Option<Place>,
}

/// Runs trials: the whole `main` of a test binary. `options` are those of the shared
/// cluster.
#[must_use]
pub fn main(options: Options, tests: Vec<Test>) -> ExitCode {
    run(options, tests, true)
}

/// Runs trials without entering a namespace, e.g. those that look at one from outside.
#[must_use]
pub fn main_outside(tests: Vec<Test>) -> ExitCode {
    run(Options::default(), tests, false)
}

fn run(options: Options, tests: Vec<Test>, inside: bool) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A cluster takes two cores and a gigabyte: one at a time, unless asked for otherwise.
    arguments.test_threads.get_or_insert(1);
    let wanted = !arguments.list && tests.iter().any(|test| asked_for(&arguments, test.name));
    let mut place = None;
    if wanted && !programs::left_out() {
        let mesh = tests.iter().any(|test| test.needs_mesh && asked_for(&arguments, test.name));
        // What is there is not asked for again inside, where nothing can be fetched.
        let mesh = if mesh { mesh::ensure() } else { Ok(()) };
        let ready = mesh.and_then(|()| Programs::ensure().map(drop));
        let entered = ready.and_then(|()| inside.then(namespace::enter).transpose());
        match entered {
            Ok(entered) => place = entered,
            Err(error) => {
                eprintln!("testbed: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let runtime = match Runtime::new() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            eprintln!("testbed: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let common = Common { runtime, options, shared: Arc::default(), place };
    let shared = Arc::clone(&common.shared);
    let trials = tests.into_iter().map(|test| trial(common.clone(), test)).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(bed)) = shared.get()
        && conclusion.has_failed()
    {
        bed.keep();
    }
    // The runtime outlives the cluster.
    drop(shared);
    drop(common);
    conclusion.exit_code()
}

fn asked_for(arguments: &Arguments, name: &str) -> bool {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    if arguments.exact { name == filter } else { name.contains(filter) }
}

fn trial(common: Common, test: Test) -> Trial {
    let Test { name, kind, needs_namespace, .. } = test;
    let left_out = programs::left_out();
    Trial::ignorable_test(name, move || {
        if left_out {
            return Ok(Completion::ignored_with("STORNX_TESTBED=off"));
        }
        if needs_namespace && common.place == Some(Place::Loopback) {
            return Ok(Completion::ignored_with("needs a network namespace"));
        }
        let runtime = Arc::clone(&common.runtime);
        let result = runtime.block_on(perform(common, kind));
        result.map(|()| Completion::Completed).map_err(Failed::from)
    })
    .with_ignored_flag(left_out)
}

async fn perform(common: Common, kind: Kind) -> Result<(), String> {
    let said = |result: TestResult| result.map_err(|error| error.to_string());
    match kind {
        Kind::Plain(body) => said(body(()).await),
        Kind::Shared(body) => {
            let start = || async {
                let started = TestBed::start(common.options.clone()).await;
                started.map(Arc::new).map_err(|error| error.to_string())
            };
            let bed = common.shared.get_or_init(start).await.clone()?;
            said(body(bed).await)
        }
        Kind::Own(options, body) => {
            let bed = TestBed::start(*options).await.map_err(|error| error.to_string())?;
            let bed = Arc::new(bed);
            let result = said(body(Arc::clone(&bed)).await);
            if result.is_err() {
                bed.keep();
            }
            result
        }
    }
}
