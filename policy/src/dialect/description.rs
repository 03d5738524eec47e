//! What a dialect is: one description, from which everything outside its folder learns what is special about it.

use super::rewrite::{BodyNeed, Parsed, Rewrite};
use crate::{
    bundle::Service,
    code::Denial,
    decide::Constraints,
    request::{DataRequest, HttpRequest},
    value::{FieldType, Literal, Size},
};

/// The description of one dialect. Each folder below `dialect` has one implementation, and the register in
/// [`crate::dialect`] has one line for it.
///
/// A part has no default: who adds a dialect says each, and who adds a part is told by the compiler which dialects have yet
/// to say it. Denials have one form for all dialects today; a dialect with a form of its own would be told by a part here.
pub trait Dialect {
    /// The name in documents and in records, in lower case.
    const NAME: &'static str;
    /// Headers (lower case) in which clients of its servers send credentials of the server's own. They are removed, unless
    /// the service forwards the caller's token.
    const CREDENTIAL_HEADERS: &'static [&'static str];
    /// True if its servers answer a path also without the version in it, or with another (see
    /// [`crate::bundle::Tables::routes_in_any_form`]).
    const ANSWERS_ANY_VERSION: bool;
    /// What only the compiler of documents asks. It is apart from the rest, so that a proxy does not carry its sentences.
    const RULES: Rules;

    /// The syntax tree of one request.
    type Syntax: Clone + std::fmt::Debug;

    /// Tells from the head alone whether `parse` needs the body.
    fn body_need(request: &HttpRequest<'_>) -> BodyNeed;

    /// Parses a request of this service. `request.path` still has the service's prefix.
    ///
    /// # Errors
    /// `unparsable`, `unsupported` or `too_large`, if any part of the request is not understood completely.
    fn parse(service: &Service, prefix: &str, request: &HttpRequest<'_>) -> Result<Parsed<Self::Syntax>, Denial>;

    /// Re-emits a parsed request with the constraints inside it, proves it by parsing the output again, and says what the
    /// response needs.
    ///
    /// # Errors
    /// `row_denied`, `field_denied` or `unsupported`, if a constraint cannot be expressed or the output does not parse to the
    /// expected tree.
    fn emit(
        service: &Service,
        prefix: &str,
        syntax: &Self::Syntax,
        request: &DataRequest,
        constraints: &Constraints,
    ) -> Result<Rewrite, Denial>;
}

/// Which parts of a `DataService` a dialect permits or demands, and how its servers read names and values.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What it is, in one sentence for the reference of documents.
    pub about: &'static str,
    /// Component names compare without case, and are canonical in lower case. Paths of a file service keep their case.
    pub folds_components: bool,
    /// Its servers compare field names without case, so that two fields of a component must differ in more.
    pub folds_fields: bool,
    /// A service may be a file service (`files`).
    pub files: bool,
    /// A service may name the member that lists of records are in (`resourcesWrapper`). `None`: it may not.
    pub wrapper: Option<Wrapper>,
    /// Components are reached through their `operations` and by nothing else. False: they may not have any.
    pub operations: bool,
    /// Requests can write fields. Then a field with the name of a credential is reported.
    pub writes: bool,
    /// How its servers cast values before the database sees them. `None`: they do not.
    pub casts: Option<Casts>,
    /// Why its servers read a relation or a query parameter under another name than this one. `None`: they do not.
    pub renames: fn(&str) -> Option<&'static str>,
    /// Why a parameter of this name, in the query or in the body, means something else to its servers. `None`: it does not.
    pub takes: fn(&str) -> Option<&'static str>,
}

/// What the member around lists of records can be called.
#[derive(Clone, Copy, Debug)]
pub struct Wrapper {
    /// Names that it cannot have, beside those of credentials.
    pub reserved: &'static [&'static str],
    /// Why, as a sentence without its full stop.
    pub why: &'static str,
}

/// What a server's casts make of values.
#[derive(Clone, Copy, Debug)]
pub struct Casts {
    /// Why the server would compare with this literal of a policy, or store it (`true`), as another value than it is.
    pub refusal: fn(&Literal, FieldType, Size, bool) -> Option<&'static str>,
    /// Places behind the point that a decimal keeps at most.
    pub places: u32,
    /// Why a decimal with more places is of little use, as a sentence without its full stop.
    pub more_places: &'static str,
    /// What becomes of numbers that are written to an integer whose width is not declared; it goes on after `if the column
    /// of "NAME" `.
    pub narrow_integer: &'static str,
}

/// A name is read as it is: for [`Rules::renames`] and [`Rules::takes`].
#[must_use]
pub fn as_it_is(_: &str) -> Option<&'static str> {
    None
}
