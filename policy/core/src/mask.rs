//! How a field is masked, as the policy says it; `transform` of the crate above does it.

use crate::Name;
pub use doorward_proto::v1::MaskKind;

/// How one field is masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskRule {
    /// Field name.
    pub field: Name,
    /// Kind of mask.
    pub kind: MaskKind,
    /// `MASK_FIXED`: the text that replaces the value.
    pub fixed: Name,
    /// `MASK_LAST`: characters kept at the end. `MASK_TRUNCATE`: characters kept at the start.
    pub length: u32,
    /// The masked field may be filtered, sorted and grouped on all the same.
    pub filterable: bool,
}
