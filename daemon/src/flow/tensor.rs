//! A tensor in host memory.

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit float (IEEE 754 binary16).
    F16,
    /// 8-bit unsigned integer.
    U8,
}

/// The elements of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit floats.
    F16(Vec<half::f16>),
    /// Bytes.
    U8(Vec<u8>),
}

/// The elements of a tensor, in somebody else's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TensorView<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 16-bit floats.
    F16(&'a [half::f16]),
    /// Bytes.
    U8(&'a [u8]),
}

impl TensorView<'_> {
    /// Element type.
    #[must_use]
    pub fn element(&self) -> ElementType {
        match self {
            Self::F32(_) => ElementType::F32,
            Self::F16(_) => ElementType::F16,
            Self::U8(_) => ElementType::U8,
        }
    }
}

/// What preprocessing left around the picture in a tensor, so that it need not write it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// Which preprocessor.
    pub by: u64,
    /// Left, top, width and height of the picture in the input.
    pub around: [usize; 4],
}

/// A tensor in host memory, row-major, the last axis fastest.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// Elements; as many as the product of the axes. Whoever writes them, but preprocessing, forgets the padding.
    pub data: TensorData,
    /// What lies around the picture of a single entry, where that is known.
    pub padding: Option<Padding>,
}

impl PartialEq for Tensor {
    /// Shape and elements count.
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.data == other.data
    }
}

impl Default for Tensor {
    /// No element, of no shape yet.
    fn default() -> Self {
        Self::new(Vec::new(), TensorData::F32(Vec::new()))
    }
}

impl Tensor {
    /// A tensor of these elements, as many as the product of the axes.
    #[must_use]
    pub fn new(shape: Vec<usize>, data: TensorData) -> Self {
        Self { shape, data, padding: None }
    }

    /// A tensor of zeros.
    #[must_use]
    pub fn zeros(element: ElementType, shape: &[usize]) -> Self {
        let len = shape.iter().product();
        let data = match element {
            ElementType::F32 => TensorData::F32(vec![0.0; len]),
            ElementType::F16 => TensorData::F16(vec![half::f16::ZERO; len]),
            ElementType::U8 => TensorData::U8(vec![0; len]),
        };
        Self::new(shape.to_vec(), data)
    }

    /// Makes it a tensor of this element type and shape. Its memory is used again where the type stays; what the elements
    /// are then is for whoever writes them.
    pub fn fit(&mut self, element: ElementType, shape: &[usize]) {
        if self.element() != element {
            *self = Self::zeros(element, shape);
        } else if self.shape != shape {
            self.padding = None;
            self.shape.clear();
            self.shape.extend_from_slice(shape);
            let len = shape.iter().product();
            match &mut self.data {
                TensorData::F32(data) => data.resize(len, 0.0),
                TensorData::F16(data) => data.resize(len, half::f16::ZERO),
                TensorData::U8(data) => data.resize(len, 0),
            }
        }
    }

    /// Element type.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.view().element()
    }

    /// The elements.
    #[must_use]
    pub fn view(&self) -> TensorView<'_> {
        match &self.data {
            TensorData::F32(data) => TensorView::F32(data),
            TensorData::F16(data) => TensorView::F16(data),
            TensorData::U8(data) => TensorView::U8(data),
        }
    }

    /// The elements where they are 32-bit floats.
    #[must_use]
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            TensorData::F32(values) => Some(values),
            _ => None,
        }
    }
}
