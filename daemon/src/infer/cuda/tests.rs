//! Tests of bound sessions, on the CPU's provider with its own memory and through the very code that a GPU runs; of the
//! engines' cache, with real folders; and of builds, with real processes.

mod builds;
mod engines;
mod slots;

use std::collections::BTreeMap;

use super::Stamp;

/// A stamp of a model on a box of the tests.
pub(crate) fn stamp(model: &str) -> Stamp {
    Stamp {
        model: model.into(),
        graph: "a".repeat(64),
        input: "{}".into(),
        batch: 1,
        calibration: None,
        gpu: "NVIDIA L4".into(),
        compute: (8, 9),
        driver: "570.86.15".into(),
        runtime: "1.31.1".into(),
        tensorrt: "101303".into(),
        options: BTreeMap::from([("trt_fp16_enable".into(), "1".into())]),
    }
}
