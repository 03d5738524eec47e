//! The register: what holds of every dialect in it.

use super::*;

#[test]
fn every_dialect_has_a_name_of_its_own_and_is_found_by_its_number_on_the_wire() {
    for kind in Kind::ALL {
        assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase()) && !kind.name().is_empty(), "{kind:?}");
        assert_eq!(Kind::ALL.iter().filter(|other| other.name() == kind.name()).count(), 1, "{kind:?}");
        assert_eq!(Kind::of(kind.wire()), Some(*kind));
    }
    assert_eq!(Kind::NAMES.len(), Kind::ALL.len());
}
