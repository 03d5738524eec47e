//! What roles grant, with everything that does not depend on the request worked out beforehand.

use super::{
    Map,
    pattern::each_pattern,
    schema::{Component, FieldSet},
};
use crate::{
    Name,
    mask::MaskRule,
    predicate::{Operand, Template},
    request::Verb,
};
use doorward_proto::v1::LimitBy;
use std::sync::Arc;

/// A role.
#[derive(Debug)]
pub struct Role {
    /// Document name.
    pub name: Name,
    /// False: switched off, it grants nothing.
    pub active: bool,
    /// In shadow mode: it grants nothing, and records say what it would.
    pub shadow: bool,
    /// A request that it decides is denied if it cannot be recorded.
    pub audit_required: bool,
    /// The department that records name; decisions do not look at it.
    pub department: Option<Name>,
    /// Rows that a read may give at most.
    pub max_rows: Option<u32>,
    /// Values of `{role.NAME}`, sorted by name.
    pub lookups: Vec<(Name, Vec<Name>)>,
    /// Rate limits; a request must keep all of them.
    pub limits: Vec<Limit>,
    /// What it allows.
    pub grants: Vec<Grant>,
    /// Service → component pattern → position of the grant by verb.
    pub(super) index: Map<Map<[Option<u32>; 7]>>,
}

/// A role's rate limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Requests per period.
    pub requests: u32,
    /// The period.
    pub per_milliseconds: u64,
    /// Requests that may come at once.
    pub burst: u32,
    /// Who shares the limit.
    pub by: LimitBy,
}

/// One grant of a role.
#[derive(Debug)]
pub struct Grant {
    /// Which rows it reaches; `None`: all.
    pub rows: Option<Template>,
    /// What written rows must satisfy; the row predicate where nothing else was said.
    pub check: Option<Template>,
    /// Values that the policy writes.
    pub set: Vec<Preset>,
    /// Rows that a read may give at most.
    pub max_rows: Option<u32>,
    /// What asking for a hidden field does; `None`: as the service says.
    pub omit_hidden: Option<bool>,
    /// What cannot be limited soundly is let through.
    pub unchecked: bool,
    /// Number of the grant in its document.
    pub source: u32,
    /// Rules for arguments of procedures and parameters of operations.
    pub arguments: Vec<ArgumentRule>,
    /// By declared component (families by their pattern).
    pub(super) views: Map<View>,
}

/// What a grant shows of one component.
#[derive(Clone, Debug)]
pub struct View {
    /// Fields that may be read.
    pub visible: Arc<FieldSet>,
    /// All declared fields are visible.
    pub sees_all: bool,
    /// Masks on visible fields, sorted by field.
    pub masks: Arc<[MaskRule]>,
    /// Fields that may be written.
    pub write: Arc<FieldSet>,
}

impl View {
    /// The mask of this field.
    pub fn mask(&self, field: &str) -> Option<&MaskRule> {
        mask_of(&self.masks, field)
    }
}

/// The mask of this field among masks sorted by field.
pub fn mask_of<'a>(masks: &'a [MaskRule], field: &str) -> Option<&'a MaskRule> {
    masks.binary_search_by(|mask| mask.field.as_ref().cmp(field)).ok().and_then(|at| masks.get(at))
}

/// A value that the policy writes.
#[derive(Debug)]
pub struct Preset {
    /// The field.
    pub field: Name,
    /// Its value.
    pub value: Operand,
    /// Written also where the client gave a value.
    pub overrides: bool,
}

/// What an argument must or may be.
#[derive(Debug)]
pub struct ArgumentRule {
    /// The argument.
    pub name: Name,
    /// It must be given.
    pub required: bool,
    /// Values that it may have; empty: any.
    pub values: Vec<Operand>,
    /// Always set to the one value.
    pub fixed: bool,
}

/// How far a role goes towards one operation.
pub enum Reach<'a> {
    /// No grant on the service.
    NoService,
    /// None on the component.
    NoComponent,
    /// None for the verb.
    NoVerb,
    /// This one.
    Granted(&'a Grant, &'a View),
}

impl Role {
    /// The grant for a verb on a component: of the patterns that match its name and grant the verb, the most specific.
    pub fn reach(&self, service: &str, component: Option<&Component>, name: &str, verb: Verb) -> Reach<'_> {
        let Some(patterns) = self.index.get(service) else { return Reach::NoService };
        let Some(component) = component else { return Reach::NoComponent };
        let mut matched = false;
        let mut granted = None;
        each_pattern(name, &mut |pattern| {
            let Some(verbs) = patterns.get(pattern) else { return false };
            matched = true;
            granted = usize::try_from(i32::from(verb)).ok().and_then(|verb| verbs.get(verb).copied()).flatten();
            granted.is_some()
        });
        let grant = granted.and_then(|at| self.grants.get(usize::try_from(at).ok()?));
        match grant.and_then(|grant| Some((grant, grant.views.get(component.name.as_ref())?))) {
            Some((grant, view)) => Reach::Granted(grant, view),
            None if matched => Reach::NoVerb,
            None => Reach::NoComponent,
        }
    }
}
