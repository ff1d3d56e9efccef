//! The kernels as PTX, and their names.
//!
//! In: `kernels/*.cu` through `make ptx`. Out: text that any driver since CUDA 9 compiles for its GPU when it loads the
//! module (PTX 6.0, compute capability 6.0 and above). Each .cu file says what its kernels take, and what grid they
//! want. Nothing here fails.

use crate::flow::ElementType;

/// One module of kernels.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// For logs.
    pub name: &'static str,
    /// Its text.
    pub ptx: &'static str,
    /// Names of its kernels.
    pub kernels: &'static [&'static str],
}

/// Pictures become tensors.
pub const TENSOR: Module = Module {
    name: "tensor",
    ptx: include_str!("kernels/tensor.ptx"),
    kernels: &["tensor_f32", "tensor_f16", "tensor_u8"],
};

/// Crop and scale.
pub const VIEW: Module =
    Module { name: "view", ptx: include_str!("kernels/view.ptx"), kernels: &[VIEW_NV12] };

/// Overlays and masks.
pub const DRAW: Module =
    Module { name: "draw", ptx: include_str!("kernels/draw.ptx"), kernels: &[DRAW_NV12, MASK_PLANES] };

/// Detectors' outputs become candidates.
pub const BOXES: Module = Module {
    name: "boxes",
    ptx: include_str!("kernels/boxes.ptx"),
    kernels: &[BOXES_ROWS, BOXES_COLUMNS, BOXES_CORNERS, BOXES_GRIDS],
};

/// Planes become planes of pairs.
pub const PLANES: Module =
    Module { name: "planes", ptx: include_str!("kernels/planes.ptx"), kernels: &[JOIN_CHROMA] };

/// Luma samples for motion and scene cuts.
pub const GRID: Module =
    Module { name: "grid", ptx: include_str!("kernels/grid.ptx"), kernels: &[GRID_LUMA] };

/// All modules.
pub const ALL: [Module; 6] = [TENSOR, VIEW, DRAW, BOXES, PLANES, GRID];

/// Arguments: [`super::params::View`].
pub const VIEW_NV12: &str = "view_nv12";
/// Arguments: [`super::params::Marks`], [`super::params::Canvas`].
pub const DRAW_NV12: &str = "draw_nv12";
/// Arguments: [`super::params::Mask`].
pub const MASK_PLANES: &str = "mask_planes";
/// Arguments: [`super::params::Join`].
pub const JOIN_CHROMA: &str = "join_chroma";
/// Arguments: [`super::params::Rows`], [`super::params::Sink`], batch entries (i32).
pub const BOXES_ROWS: &str = "boxes_rows";
/// Arguments: [`super::params::Columns`], [`super::params::Sink`], batch entries (i32).
pub const BOXES_COLUMNS: &str = "boxes_columns";
/// Arguments: [`super::params::Rows`], [`super::params::Sink`], batch entries (i32).
pub const BOXES_CORNERS: &str = "boxes_corners";
/// Arguments: [`super::params::Grids`], [`super::params::Sink`], batch entries (i32).
pub const BOXES_GRIDS: &str = "boxes_grids";
/// Arguments: [`super::params::Samples`].
pub const GRID_LUMA: &str = "grid_luma";

/// The kernel that fills tensors of an element type. Arguments: the address of [`super::params::Job`]s (u64), how many
/// (i32), the address of the tensor (u64), [`super::params::Geometry`].
#[must_use]
pub const fn tensor(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "tensor_f32",
        ElementType::F16 => "tensor_f16",
        ElementType::U8 => "tensor_u8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// The sources of a module, as `make ptx` hashes them.
    const SOURCES: [(&str, &[&str]); 6] = [
        ("tensor", &[include_str!("kernels/common.h"), include_str!("kernels/tensor.cu")]),
        ("view", &[include_str!("kernels/common.h"), include_str!("kernels/view.cu")]),
        ("draw", &[include_str!("kernels/common.h"), include_str!("kernels/draw.cu")]),
        ("boxes", &[include_str!("kernels/common.h"), include_str!("kernels/boxes.cu")]),
        ("planes", &[include_str!("kernels/common.h"), include_str!("kernels/planes.cu")]),
        ("grid", &[include_str!("kernels/common.h"), include_str!("kernels/grid.cu")]),
    ];

    #[test]
    fn the_ptx_is_that_of_the_sources() {
        for (module, (name, sources)) in ALL.iter().zip(SOURCES) {
            assert_eq!(module.name, name);
            let mut hash = Sha256::new();
            sources.iter().for_each(|source| hash.update(source));
            let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            let first = module.ptx.lines().next().unwrap();
            assert!(first.ends_with(&hex), "{name}.ptx is not of these sources ({first}): run `make ptx`");
        }
    }

    #[test]
    fn every_kernel_is_there_and_rounds_as_the_host_does() {
        for module in ALL {
            for kernel in module.kernels {
                assert!(module.ptx.contains(&format!(".visible .entry {kernel}(")), "{kernel}");
            }
            let entries = module.ptx.matches(".visible .entry ").count();
            assert_eq!(entries, module.kernels.len(), "{}", module.name);
            assert!(module.ptx.contains("\n.version 6.0\n.target sm_60\n"), "{}", module.name);
            // A fused multiply-add would round once where the CPU lane rounds twice; local memory would be slow.
            for word in ["fma.", "mul.f32", "add.f32", "sub.f32", ".ftz", ".local"] {
                assert!(!module.ptx.contains(word), "{}: {word}", module.name);
            }
        }
        for element in [ElementType::F32, ElementType::F16, ElementType::U8] {
            assert!(TENSOR.kernels.contains(&tensor(element)));
        }
    }
}
