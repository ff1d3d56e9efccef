//! A model on this GPU: what is bound, and in which order kernels and inference run.
//!
//! In: an opened GPU, a model's folder. Out: parts, for each execution provider; one that does not load is named as untried,
//! in ONNX Runtime's words. Everything that is opened is closed again.

use std::path::Path;

use super::{Outcome, Part, compared};
use crate::config::settings::{Infer, Provider};
use crate::infer::{ModelDir, Runtime, SessionOptions};
use crate::pipeline::lane::{CudaShared, Order, Serving, trial};

/// Tries them all.
pub(super) fn providers(
    shared: &CudaShared,
    library: Option<&Path>,
    model: &Path,
    add: &mut impl FnMut(Part),
) {
    if let Err(error) = try_all(shared, library, model, add) {
        add(Part::new("model", Outcome::Wrong, format!("{error:#}")));
    }
}

fn try_all(
    shared: &CudaShared,
    library: Option<&Path>,
    model: &Path,
    add: &mut impl FnMut(Part),
) -> anyhow::Result<()> {
    let (runtime, dir) = (Runtime::load(library)?, ModelDir::open(model)?);
    let (cache, infer) = (tempfile::tempdir()?, Infer::default());
    let serving = Serving::default();
    let order = Order {
        serving: &serving,
        name: "check",
        options: SessionOptions { threads: 0, batch: 1 },
        threshold: None,
        infer: &infer,
        cache: cache.path(),
    };
    if dir.head()?.is_some() {
        let two = "a two-stage clip model; give another one";
        add(Part::new("bound memory and order of kernels", Outcome::Untried, two));
        return Ok(());
    }
    for provider in [Provider::TensorRt, Provider::Cuda] {
        match runtime.try_provider(provider) {
            Ok(()) => {
                for finding in trial::on_gpu(shared, &runtime, &dir, &order, provider) {
                    add(compared(finding, "runs", "are not as they should be"));
                }
            }
            Err(why) => {
                for part in trial::names(provider) {
                    add(Part::new(part, Outcome::Untried, why.clone()));
                }
            }
        }
    }
    add(compared(trial::on_host(shared, &runtime, &dir, &order), "runs", "are not as on the CPU lane"));
    Ok(())
}
