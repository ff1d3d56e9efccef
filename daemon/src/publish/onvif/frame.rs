//! `onvif-mj`: the objects of one frame as a metadata frame.
//!
//! In: the objects of a frame. Out: topic and payload, a `tt:Frame` in JSON: attributes begin with `@`, text is `#text`.
//! Coordinates are ONVIF's normalised ones: -1 to 1, x to the right, y upwards, so no transformation is needed. Plain
//! data; nothing fails.

use serde::Serialize;

use super::super::messages::{ObjectMessage, ObjectsMessage};
use super::part;

/// The analytics module's name: a stream has one, its models and plugins together.
const MODULE: &str = "watchpost";

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "Frame")]
    frame: [Frame<'a>; 1],
}

#[derive(Serialize)]
struct Frame<'a> {
    #[serde(rename = "@UtcTime")]
    time: String,
    #[serde(rename = "@Source")]
    source: &'a str,
    #[serde(rename = "Object", skip_serializing_if = "Vec::is_empty")]
    objects: Vec<Object<'a>>,
}

#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "@ObjectId", skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(rename = "Appearance")]
    appearance: Appearance<'a>,
}

#[derive(Serialize)]
struct Appearance<'a> {
    #[serde(rename = "Shape")]
    shape: Shape,
    #[serde(rename = "Class")]
    class: Class<'a>,
}

#[derive(Serialize)]
struct Shape {
    #[serde(rename = "BoundingBox")]
    bounds: Bounds,
    #[serde(rename = "CenterOfGravity")]
    centre: Point,
}

#[derive(Serialize)]
struct Bounds {
    #[serde(rename = "@left")]
    left: f64,
    #[serde(rename = "@top")]
    top: f64,
    #[serde(rename = "@right")]
    right: f64,
    #[serde(rename = "@bottom")]
    bottom: f64,
}

#[derive(Serialize)]
struct Point {
    #[serde(rename = "@x")]
    x: f64,
    #[serde(rename = "@y")]
    y: f64,
}

#[derive(Serialize)]
struct Class<'a> {
    #[serde(rename = "Type")]
    types: Vec<Type<'a>>,
}

#[derive(Serialize)]
struct Type<'a> {
    #[serde(rename = "@Likelihood")]
    likelihood: f64,
    #[serde(rename = "#text")]
    text: &'a str,
}

/// The metadata frame of a frame: topic and payload. `prefix` is ONVIF's TopicPrefix, the stream its profile.
pub(in super::super) fn frame(prefix: &str, found: &ObjectsMessage) -> (String, Vec<u8>) {
    made(prefix, MODULE, found)
}

fn made(prefix: &str, module: &str, found: &ObjectsMessage) -> (String, Vec<u8>) {
    let metadata = Metadata {
        frame: [Frame {
            time: found.captured.to_string(),
            source: module,
            objects: found.objects.iter().map(|object| shown(object, found.width, found.height)).collect(),
        }],
    };
    let topic = format!("{prefix}/onvif-mj/VideoAnalytics/{}/{}", part(&found.stream.0), part(module));
    (topic, super::super::shared::json(&metadata))
}

fn shown(object: &ObjectMessage, width: u32, height: u32) -> Object<'_> {
    let round = |value: f64, digits: f64| (value * digits).round() / digits;
    let x =
        |pixel: f32| round((2.0 * f64::from(pixel) / f64::from(width.max(1)) - 1.0).clamp(-1.0, 1.0), 1e5);
    let y =
        |pixel: f32| round((1.0 - 2.0 * f64::from(pixel) / f64::from(height.max(1))).clamp(-1.0, 1.0), 1e5);
    let [left, top, across, down] = object.bounds;
    let likelihood = round(f64::from(object.score), 1e4);
    let standard = standard(&object.label).filter(|standard| *standard != object.label);
    let types = standard.into_iter().chain([object.label.as_str()]).map(|text| Type { likelihood, text });
    Object {
        id: object.track.map(|track| track.0),
        appearance: Appearance {
            shape: Shape {
                bounds: Bounds { left: x(left), top: y(top), right: x(left + across), bottom: y(top + down) },
                centre: Point { x: x(left + across / 2.0), y: y(top + down / 2.0) },
            },
            class: Class { types: types.collect() },
        },
    }
}

/// ONVIF's own type for a label of the usual detectors; it stands beside the label.
fn standard(label: &str) -> Option<&'static str> {
    Some(match label {
        "person" => "Human",
        "bicycle" => "Bicycle",
        "car" | "truck" | "bus" | "motorcycle" | "van" => "Vehicle",
        "bird" | "cat" | "dog" | "horse" | "sheep" | "cow" | "elephant" | "bear" | "zebra" | "giraffe" => {
            "Animal"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::messages::{Labels, ObjectsRecord};
    use super::*;
    use crate::flow::{FrameMeta, Objects, Rect};

    fn message(width: u32, height: u32, label: &str, track: u64, rect: Rect, score: f32) -> ObjectsMessage {
        let frame = FrameMeta {
            stream: "1".into(),
            index: 7,
            pts: 0,
            captured: 1_633_446_807_321_000,
            width,
            height,
            cut: false,
            motion: 0.0,
            gap: 0,
        };
        let mut objects = Objects::default();
        objects.push(0, 0, score, rect);
        objects.tracks[0] = track;
        let models = [Labels { model: "m".into(), labels: vec![label.to_owned()].into() }];
        let record = ObjectsRecord { frame: &frame, objects: &objects, models: &models, runs: &[0] };
        ObjectsMessage::new(&"b".into(), record)
    }

    /// Applies a frame's `Transformation` to the coordinates below it: what is left is in normalised coordinates.
    fn normalise(frame: &mut Value) {
        let change = frame.as_object_mut().unwrap().remove("Transformation").unwrap();
        let number = |of: &str, axis: &str| change[of][axis].as_f64().unwrap();
        let (dx, dy) = (number("Translate", "@x"), number("Translate", "@y"));
        let (sx, sy) = (number("Scale", "@x"), number("Scale", "@y"));
        let shape = &mut frame["Object"][0]["Appearance"]["Shape"];
        for (part, keys) in [
            ("BoundingBox", &["@left", "@right", "@top", "@bottom"][..]),
            ("CenterOfGravity", &["@x", "@y"][..]),
        ] {
            for key in keys {
                let across = matches!(*key, "@left" | "@right" | "@x");
                let value = shape[part][*key].as_f64().unwrap();
                let value = if across { value * sx + dx } else { value * sy + dy };
                shape[part][*key] = ((value * 1e5).round() / 1e5).into();
            }
        }
    }

    /// The values of the Analytics Service Specification's example ("ONVIF Metadata in JSON over MQTT", "Example"),
    /// through the encoder, give its JSON: all of it that a box can know.
    #[test]
    fn the_specification_s_example_comes_out() {
        // A frame of 640x480 whose y axis goes up from its lower left corner, as its Scale says.
        let rect = Rect::new(20.0, 480.0 - 80.0, 80.0, 50.0);
        let (topic, bytes) = made("MyDevice", "MyClassifier", &message(640, 480, "Human", 15, rect, 0.8));
        assert_eq!(topic, include_str!("golden/analytics-frame-topic.txt").trim_end());

        let mut example: Value = serde_json::from_str(include_str!("golden/analytics-frame.json")).unwrap();
        let xml = include_str!("golden/analytics-frame.xml");
        assert!(xml.contains(r#"<tt:BoundingBox left="20.0" top="80.0" right="100.0" bottom="30.0"/>"#));
        let frame = &mut example["Frame"][0];
        // The JSON's own slip; see golden/README.md.
        frame["Object"][0]["Appearance"]["Shape"]["BoundingBox"]["@top"] = 80.0.into();
        // The example's centre of gravity is not its box's centre (55); a box is all that a detector gives.
        frame["Object"][0]["Appearance"]["Shape"]["CenterOfGravity"]["@y"] = 55.0.into();
        normalise(frame);
        // The example's time names no zone; xs:dateTime has one for UTC, as in the Core Specification's examples.
        frame["@UtcTime"] = format!("{}Z", frame["@UtcTime"].as_str().unwrap()).into();
        frame.as_object_mut().unwrap().remove("@context");
        let appearance = &mut frame["Object"][0]["Appearance"];
        for unknown in ["Color", "HumanFace", "HumanBody"] {
            assert!(appearance.as_object_mut().unwrap().remove(unknown).is_some());
        }
        assert!(appearance["Shape"].as_object_mut().unwrap().remove("Polygon").is_some());
        let made: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(made, example);
    }

    #[test]
    fn labels_keep_their_name_beside_the_standard_s_and_boxes_stay_in_the_frame() {
        let rect = Rect::new(-10.0, 0.0, 110.0, 200.0);
        let (topic, bytes) = frame("watchpost/b", &message(100, 100, "person", 0, rect, 0.912_34));
        assert_eq!(topic, "watchpost/b/onvif-mj/VideoAnalytics/1/watchpost");
        let made: Value = serde_json::from_slice(&bytes).unwrap();
        let object = &made["Frame"][0]["Object"][0];
        assert!(object.get("@ObjectId").is_none(), "no track, no id");
        assert_eq!(
            object["Appearance"]["Class"]["Type"],
            json!([{"@Likelihood": 0.9123, "#text": "Human"}, {"@Likelihood": 0.9123, "#text": "person"}])
        );
        assert_eq!(
            object["Appearance"]["Shape"]["BoundingBox"],
            json!({"@left": -1.0, "@top": 1.0, "@right": 1.0, "@bottom": -1.0})
        );
        let mut none = message(100, 100, "person", 0, rect, 0.5);
        none.objects.clear();
        let made: Value = serde_json::from_slice(&frame("d", &none).1).unwrap();
        assert_eq!(made["Frame"][0].as_object().unwrap().len(), 2, "an empty frame has no objects: {made}");
    }
}
