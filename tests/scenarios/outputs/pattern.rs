//! A test picture that says which one it is: a moving pattern with its number as a bar code.
//!
//! In: a number. Out: an NV12 picture; and back: the number and the likeness of a picture that was read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use watchpost::encode::VideoOut;
use watchpost::flow::{Colorimetry, Matrix, Picture, Range, Size};

/// Size of the pictures.
pub const SIZE: Size = Size::new(320, 180);
/// Pictures a second.
pub const RATE: u32 = 25;
/// Bits of the number.
const BITS: usize = 16;
/// Pixels of a bit, each way.
const CELL: usize = 16;

/// Luma and chroma of picture `number`.
pub fn planes(number: u64) -> (Vec<u8>, Vec<u8>) {
    let (width, height) = (SIZE.width as usize, SIZE.height as usize);
    let shift = number as f32 * 0.13;
    let mut luma = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let bit = x / CELL;
            luma.push(if y < CELL && bit < BITS {
                if number >> bit & 1 == 1 { 220 } else { 30 }
            } else {
                let wave = (x as f32 * 0.05 + shift).sin() * 50.0 + (y as f32 * 0.08 - shift).cos() * 40.0;
                (126.0 + wave) as u8
            });
        }
    }
    let mut chroma = Vec::with_capacity(width * height / 2);
    for y in 0..height / 2 {
        for x in 0..width / 2 {
            chroma.push((128.0 + (x as f32 * 0.04 + shift * 0.5).sin() * 50.0) as u8);
            chroma.push((128.0 + (y as f32 * 0.06).cos() * 50.0) as u8);
        }
    }
    (luma, chroma)
}

/// Picture `number`.
pub fn picture(number: u64) -> Picture {
    let (luma, chroma) = planes(number);
    Picture::nv12(SIZE, Colorimetry { matrix: Matrix::Bt709, range: Range::Limited }, luma, chroma)
}

/// Picture `number` with noise below the bar code, which takes as many bits as an encoder may spend.
pub fn noisy(number: u64) -> Picture {
    let (mut luma, chroma) = planes(number);
    let mut state = number as u32 + 1;
    for sample in &mut luma[SIZE.width as usize * CELL..] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = (state >> 24) as u8;
    }
    Picture::nv12(SIZE, Colorimetry { matrix: Matrix::Bt709, range: Range::Limited }, luma, chroma)
}

/// Stream time of picture `number`, which does not start at 0.
pub fn pts(number: u64) -> u64 {
    7_000_000_000 + number * 1_000_000_000 / u64::from(RATE)
}

/// Bytes of a picture that is read back as NV12.
pub const BYTES: usize = (SIZE.width * SIZE.height * 3 / 2) as usize;

/// The number of a picture that was read, and its peak signal to noise ratio in dB, over all samples.
pub fn recognise(bytes: &[u8]) -> (u64, f64) {
    assert_eq!(bytes.len(), BYTES);
    let width = SIZE.width as usize;
    let number = (0..BITS).fold(0, |number, bit| {
        let center = CELL / 2 * width + bit * CELL + CELL / 2;
        number | u64::from(bytes[center] > 125) << bit
    });
    let (luma, chroma) = planes(number);
    let expected = luma.iter().chain(&chroma);
    let error: f64 = bytes.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    (number, 10.0 * (255.0 * 255.0 * BYTES as f64 / error.max(1.0)).log10())
}

/// Checks pictures that were read: each well alike, their numbers rising by one.
pub fn check(frames: &[Vec<u8>], wanted: usize, what: &str) -> Vec<u64> {
    assert!(frames.len() >= wanted, "{what}: only {} of {wanted} pictures", frames.len());
    let found: Vec<_> = frames.iter().map(|frame| recognise(frame)).collect();
    for (place, (number, psnr)) in found.iter().enumerate() {
        assert!(*psnr >= 30.0, "{what}: picture {place} (number {number}) has {psnr:.1} dB");
    }
    let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
    let holes = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    assert!(holes == 0, "{what}: pictures are missing or repeated: {numbers:?}");
    numbers
}

/// A thread that pushes the pattern at its rate until it is dropped.
pub struct Pump {
    stop: Arc<(Mutex<bool>, Condvar)>,
    pushed: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pump {
    /// Pushes the pattern to an output, from picture 0 on.
    pub fn start(output: Arc<VideoOut>) -> Self {
        Self::of(output, picture)
    }

    /// Pushes pictures to an output, from number 0 on.
    pub fn of(output: Arc<VideoOut>, picture: fn(u64) -> Picture) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let pushed = Arc::new(AtomicU64::new(0));
        let (told, counter) = (Arc::clone(&stop), Arc::clone(&pushed));
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            for number in 0.. {
                output.push(picture(number), pts(number));
                counter.store(number + 1, Ordering::SeqCst);
                let due = begin + Duration::from_nanos(pts(number + 1) - pts(0));
                let mut stopped = told.0.lock().unwrap();
                while !*stopped && Instant::now() < due {
                    stopped = told.1.wait_timeout(stopped, due - Instant::now()).unwrap().0;
                }
                if *stopped {
                    return;
                }
            }
        });
        Self { stop, pushed, thread: Some(thread) }
    }

    /// Pictures pushed.
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::SeqCst)
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}
