//! Detections of the shared models on the shared videos against reference results.
//!
//! The references come from an independent pipeline; they state the colour matrix, the filter and the rounding.
//! Pooled over the videos, for each model: at least 95 % of the reference objects with a score of 0.35 or more
//! are found (same label, IoU of 0.9 or more, score within 0.05), and at most 5 % further objects above 0.35.

use std::path::Path;

use e2e::data::data;
use e2e::frames::Frames;
use e2e::models::shared_model;
use serde::Deserialize;
use watchpost::flow::{ElementType, Objects, Picture, Rect, Size, Tensor};
use watchpost::infer::{ModelDir, Runtime, Session, SessionOptions};
use watchpost::jobs::model::CheckArgs;
use watchpost::postprocess::{Decoder, ModelInfo};
use watchpost::preprocess::Preprocessor;

const LEAST: f32 = 0.35;

#[derive(Deserialize)]
struct Golden {
    video: String,
    width: u32,
    height: u32,
    color: String,
    frames: Vec<GoldenFrame>,
}

#[derive(Deserialize)]
struct GoldenFrame {
    frame: u64,
    objects: Vec<GoldenObject>,
}

#[derive(Deserialize)]
struct GoldenObject {
    label: String,
    score: f32,
    #[serde(rename = "box")]
    corners: [f32; 4],
}

#[derive(Default, Debug)]
struct Tally {
    expected: usize,
    found: usize,
    given: usize,
    further: usize,
}

/// A model from its folder, with everything that a frame visits on its way to objects.
struct Model {
    preprocessor: Preprocessor,
    session: Session,
    decoder: Decoder,
    tensor: Tensor,
}

impl Model {
    fn open(folder: &Path) -> Self {
        let runtime = Runtime::load(None).unwrap();
        let model = ModelDir::open(folder).unwrap();
        let session = Session::open(&runtime, &model, SessionOptions { threads: 2, batch: 1 }).unwrap();
        let decoder = Decoder::new(&ModelInfo {
            decoder: &model.manifest.output,
            labels: session.labels(),
            keep: &model.manifest.keep,
            input: session.input().size,
            names: session.output_names(),
            outputs: session.outputs(),
            threshold: None,
        })
        .unwrap();
        let input = session.input();
        let preprocessor = Preprocessor::new(&model.manifest.input, input.size, input.element).unwrap();
        Self { preprocessor, session, decoder, tensor: Tensor::zeros(ElementType::F32, &[0]) }
    }

    fn objects(&mut self, picture: &Picture) -> Objects {
        let rect = Rect::of_size(picture.size);
        let letterbox = self.preprocessor.letterbox(picture.size, &rect).unwrap();
        self.preprocessor.run(picture, &[rect], &mut self.tensor).unwrap();
        let outputs = self.session.run(&self.tensor).unwrap();
        let mut objects = Objects::default();
        self.decoder.objects(outputs, 0, &letterbox, 0, &mut objects);
        objects
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.found += other.found;
        self.given += other.given;
        self.further += other.further;
    }

    /// Pairs objects with reference objects of the same label, the best overlap first.
    fn frame(&mut self, reference: &[GoldenObject], objects: &Objects, labels: &[String]) {
        let mut pairs = Vec::new();
        for (wanted, golden) in reference.iter().enumerate() {
            let [left, top, right, bottom] = golden.corners;
            let bounds = Rect::from_corners(left, top, right, bottom);
            for given in 0..objects.len() {
                if labels[objects.classes[given] as usize] == golden.label {
                    pairs.push((bounds.iou(&objects.bounds[given]), wanted, given));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut partner_of_wanted = vec![None; reference.len()];
        let mut paired = vec![false; objects.len()];
        for (iou, wanted, given) in pairs {
            if iou >= 0.9 && partner_of_wanted[wanted].is_none() && !paired[given] {
                partner_of_wanted[wanted] = Some(given);
                paired[given] = true;
            }
        }
        for (golden, partner) in reference.iter().zip(&partner_of_wanted) {
            if golden.score >= LEAST {
                self.expected += 1;
                let close = |given: usize| (objects.scores[given] - golden.score).abs() <= 0.05;
                self.found += usize::from(partner.is_some_and(close));
            }
        }
        // An object whose partner in the reference lies just below the bound is none further.
        for (score, paired) in objects.scores.iter().zip(&paired) {
            if *score > LEAST {
                self.given += 1;
                self.further += usize::from(!paired);
            }
        }
    }
}

fn golden(model_name: &str) {
    let Some(data) = data(&format!("golden detections of {model_name}")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::open(&shared_model(&data, model_name, folder.path()));
    let labels = model.session.labels().to_vec();
    let mut references: Vec<_> =
        std::fs::read_dir(data.join("golden")).unwrap().map(|e| e.unwrap().path()).collect();
    references.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(model_name));
    references.sort();
    assert_eq!(references.len(), 6);
    let mut pooled = Tally::default();
    for reference in references {
        let golden: Golden = serde_json::from_str(&std::fs::read_to_string(reference).unwrap()).unwrap();
        let mut frames = Frames::open(&data.join("videos").join(&golden.video));
        let mut tally = Tally::default();
        let mut next = 0;
        for wanted in &golden.frames {
            let picture = frames.nth((wanted.frame - next) as usize).expect("the video is shorter");
            next = wanted.frame + 1;
            assert_eq!(picture.size, Size::new(golden.width, golden.height));
            let color = format!("{:?}, {:?} range", picture.color.matrix, picture.color.range).to_lowercase();
            assert_eq!(color, golden.color, "{}", golden.video);
            tally.frame(&wanted.objects, &model.objects(&picture), &labels);
        }
        println!("{model_name} {:36} {tally:?}", golden.video);
        pooled.add(&tally);
    }
    let found = pooled.found as f64 / pooled.expected as f64;
    let further = pooled.further as f64 / pooled.expected as f64;
    println!("{model_name}: {:.2} % found, {:.2} % further: {pooled:?}", found * 100.0, further * 100.0);
    assert!(pooled.expected > 50, "the references hold {} objects only", pooled.expected);
    assert!(found >= 0.95, "{:.2} % of the reference objects were found", found * 100.0);
    assert!(further <= 0.05, "{:.2} % further objects", further * 100.0);
}

#[test]
fn yolox_finds_what_the_reference_found() {
    golden("yolox_nano_416");
}

#[test]
fn nanodet_finds_what_the_reference_found() {
    golden("nanodet_m_416");
}

/// The classifier works in 16-bit floats, and sees bottles (ImageNet's 898 is a water bottle) where there are some.
#[test]
fn a_classifier_in_16_bit_floats_sees_bottles() {
    let Some(data) = data("a classifier in 16-bit floats") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::open(&shared_model(&data, "squeezenet_fp16", folder.path()));
    assert_eq!(model.session.input().element, ElementType::F16);
    let picture = Frames::open(&data.join("videos/intel_bottle-detection.mp4")).next().unwrap();
    model.preprocessor.run(&picture, &[Rect::of_size(picture.size)], &mut model.tensor).unwrap();
    let outputs = model.session.run(&model.tensor).unwrap();
    let mut scores = Vec::new();
    assert_eq!(model.decoder.scores(outputs, 0, 0, 0, 0, &mut scores), 1000);
    let sum: f32 = scores.iter().map(|score| score.value).sum();
    assert!((sum - 1.0).abs() < 0.02, "probabilities add up to {sum}");
    let best = scores.iter().max_by(|a, b| a.value.total_cmp(&b.value)).unwrap();
    assert_eq!((best.class, best.value > 0.15), (898, true), "{best:?}");
}

fn check_args(model: &Path) -> CheckArgs {
    CheckArgs {
        folder: model.to_path_buf(),
        on: None,
        out: None,
        every: 25,
        frames: 2,
        threshold: None,
        threads: 1,
        library: None,
        json: false,
    }
}

/// `model check` writes a picture of the video's size for every frame it looked at.
#[test]
fn model_check_draws_what_it_found() {
    let Some(data) = data("model check on a video") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut args = check_args(&shared_model(&data, "yolox_nano_416", folder.path()));
    args.on = Some(data.join("videos/intel_bottle-detection.mp4"));
    args.out = Some(folder.path().join("found.png"));
    watchpost::jobs::model::check(&args).unwrap();
    for index in [0, 25] {
        let png = std::fs::read(folder.path().join(format!("found-{index:06}.png"))).unwrap();
        assert_eq!(&png[1..4], b"PNG");
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!((number(16), number(20)), (640, 360));
    }
    // One frame alone gets the very name.
    args.frames = 1;
    watchpost::jobs::model::check(&args).unwrap();
    assert!(folder.path().join("found.png").is_file());
}

/// A manifest of another decoder, or of too few labels, is refused before the first frame, by the tensor's name.
#[test]
fn a_wrong_manifest_for_a_real_model_names_the_tensor() {
    let Some(data) = data("a wrong manifest for a real model") else { return };
    let folder = tempfile::tempdir().unwrap();
    let model = shared_model(&data, "yolox_nano_416", folder.path());
    let refuse = |from: &str, to: &str| {
        let file = model.join("model.toml");
        let right = std::fs::read_to_string(&file).unwrap();
        assert!(right.contains(from));
        std::fs::write(&file, right.replace(from, to)).unwrap();
        let args = check_args(&model);
        let error = format!("{:#}", watchpost::jobs::model::check(&args).unwrap_err());
        std::fs::write(&file, right).unwrap();
        error
    };
    let decoder = refuse("decoder = \"yolox\"", "decoder = \"nanodet\"");
    assert!(decoder.contains("decoder nanodet") && decoder.contains("`output` [1, 3549, 85]"), "{decoder}");
    let labels = refuse("labels = \"coco.txt\"", "labels = [\"person\"]");
    assert!(labels.contains("85 values an anchor; 1 labels make 6"), "{labels}");
    let layout = refuse("channels = \"bgr\"", "layout = \"nhwc\"");
    assert!(layout.contains("`images`") && layout.contains("nhwc"), "{layout}");
    let size = refuse("channels = \"bgr\"", "size = \"640x640\"");
    assert!(size.contains("`images` is [1, 3, 416, 416]; the manifest's `input.size` is 640x640"), "{size}");
    let graph = refuse("yolox_nano_416.onnx", "coco.txt");
    assert!(graph.contains("coco.txt") && graph.contains("cannot load"), "{graph}");
}
