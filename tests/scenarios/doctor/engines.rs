//! TensorRT's engines in the cache, under the software driver: each is compared with the box.

use e2e::cuda::Soft;
use watchpost::infer::{Engines, Stamp};

use super::{findings, report, write};

#[test]
fn an_engine_for_another_gpu_is_stale_and_says_what_it_was_made_for() {
    let folder = tempfile::tempdir().unwrap();
    let soft = Soft::new(folder.path());
    let file = write(folder.path(), "url = \"off\"", "scene://people?seed=1", "auto", "");
    let (_, seen) = report(&file, &soft.environment());
    // Where TensorRT loads, a missing engine is said; where it does not, there is nothing to say.
    let engines = findings(&seen, "engine");
    assert!(engines.iter().all(|(_, found)| found == "people on GPU 0: none yet"), "{engines:?}");

    let stamp = Stamp {
        model: "people".into(),
        graph: "a".repeat(64),
        input: "{}".into(),
        batch: 1,
        calibration: None,
        gpu: "NVIDIA L4".into(),
        compute: (8, 9),
        driver: "570.86.15".into(),
        runtime: "1.24.0".into(),
        tensorrt: "101303".into(),
        options: Default::default(),
    };
    let place = Engines::new(&folder.path().join("cache")).folder(&stamp);
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("graph.engine"), "machine code").unwrap();
    let text = serde_json::json!({ "schema": "watchpost.engine/1", "stamp": stamp, "seconds": 90.0,
        "built": 1_800_000_000, "files": { "graph.engine": 12 } });
    std::fs::write(place.join("stamp.json"), text.to_string()).unwrap();
    let (code, seen) = report(&file, &soft.environment());
    assert_eq!(code, Some(0), "an engine is made anew: {seen}");
    let engines = findings(&seen, "engine");
    assert!(engines.len() == 1 && engines[0].0 == "limited", "{engines:?}");
    let found = &engines[0].1;
    assert!(found.starts_with("people on GPU 0: stale: the model's file has changed; "), "{found}");
    for difference in
        ["made for GPU NVIDIA L4, here is Software GPU 0", "compute capability 8.9, here is 7.5"]
    {
        assert!(found.contains(difference), "{found}");
    }
    // On the CPU lane nobody asks for engines.
    let file = write(folder.path(), "url = \"off\"", "scene://people?seed=1", "cpu", "");
    assert!(findings(&report(&file, &soft.environment()).1, "engine").is_empty());
}
