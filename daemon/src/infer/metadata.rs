//! What Ultralytics' exporter leaves in a graph's metadata: `names`, `task`, `imgsz`.
//!
//! In: text as Python prints it (`{0: 'person', 1: "driver's seat"}`, `[640, 480]`). Out: names in the order of
//! their indices, a size. Text of another form gives `None`.

use std::collections::BTreeMap;

use crate::flow::Size;

/// Class names of a Python dictionary or list.
#[must_use]
pub fn names(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let mut found = BTreeMap::new();
    let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let keyed = inner.is_some();
    let mut rest = inner.or_else(|| text.strip_prefix('[')?.strip_suffix(']'))?.trim();
    while !rest.is_empty() {
        let index = if keyed {
            let (key, value) = rest.split_once(':')?;
            rest = value.trim_start();
            key.trim().parse::<usize>().ok()?
        } else {
            found.len()
        };
        let (name, after) = quoted(rest)?;
        found.insert(index, name);
        rest = after.trim_start();
        rest = if rest.is_empty() { rest } else { rest.strip_prefix(',')?.trim_start() };
    }
    let complete = !found.is_empty() && found.keys().copied().eq(0..found.len());
    complete.then(|| found.into_values().collect())
}

/// A Python string literal at the start of a text, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut characters = text.char_indices();
    let (_, quote) = characters.next().filter(|(_, first)| matches!(first, '\'' | '"'))?;
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            end if end == quote => return Some((value, &text[at + end.len_utf8()..])),
            other => value.push(other),
        }
    }
    None
}

/// `[height, width]`, as `imgsz` is written.
#[must_use]
pub fn image_size(text: &str) -> Option<Size> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut numbers = inner.split(',').map(|number| number.trim().parse::<u32>().ok());
    let (height, width) = (numbers.next()??, numbers.next()??);
    (numbers.next().is_none() && height > 0 && width > 0).then_some(Size::new(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_python_dictionaries_and_lists() {
        let people = r#"{0: 'person', 1: "driver's seat", 2: 'a, b: {c}', 3: 'it\'s'}"#;
        assert_eq!(names(people).unwrap(), ["person", "driver's seat", "a, b: {c}", "it's"]);
        assert_eq!(names("['a', 'b']").unwrap(), ["a", "b"]);
        assert_eq!(names("{1: 'b', 0: 'a'}").unwrap(), ["a", "b"]);
    }

    #[test]
    fn refuses_what_is_no_complete_set_of_names() {
        for text in
            ["", "{}", "{0: 'a', 2: 'c'}", "{0: 'a", "{a: 'b'}", "{0: a}", "0: 'a'", "{0: 'a' 1: 'b'}"]
        {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_height_first() {
        assert_eq!(image_size("[480, 640]"), Some(Size::new(640, 480)));
        assert_eq!(image_size("640"), None);
        assert_eq!(image_size("[640]"), None);
        assert_eq!(image_size("[0, 640]"), None);
    }
}
