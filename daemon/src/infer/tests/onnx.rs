//! Writes ONNX graphs by hand: a protocol buffer, field after field, without a library that knows the format.
//!
//! In: numbers of fields, as onnx.proto gives them, and values. Out: the bytes of a message. Used by the tests of
//! `infer`, for small graphs that are right or wrong in a known way, and by the benchmark `budgets`
//! (tests/bench/budgets/small.rs, which includes this file), for a model of a known cost. A message belongs to
//! whoever writes it. Nothing fails: whether it makes sense is for ONNX Runtime to say.

/// Fields of a message, one after the other.
#[derive(Default, Clone)]
pub struct Message(pub Vec<u8>);

impl Message {
    /// A field that is a whole number or the value of an enumeration.
    pub fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// A field of bytes.
    pub fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A field of text.
    pub fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A field that is a message of its own.
    pub fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
