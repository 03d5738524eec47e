//! The syntax tree of a request, in the one form in which it is written again.

use super::{filter::Filter, literal::Literal};
use crate::{
    Name,
    json::{Map, Value},
    request::Operation,
};
use doorward_proto::v1::Verb;
use std::sync::Arc;

/// What was understood, and what it asks.
pub(super) type Understood = (Target, Vec<Operation>);

/// Syntax tree of one DreamFactory request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// As meant, after method overrides.
    pub(super) verb: Verb,
    /// The verb was tunnelled through `POST`.
    pub(super) tunnelled: bool,
    /// It is `HEAD`: what `GET` asks, without the body of the answer.
    pub(super) head: bool,
    pub(super) target: Target,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per request, and most are tables; a box would cost an allocation each"
)]
pub(super) enum Target {
    /// `_table`, `_proc`, `_func`, `_schema`: a list of names.
    List(List),
    /// `_schema/NAME` and what is below it.
    Schema(Schema),
    Table(Table),
    Call(Call),
    File(File),
}

/// A list of names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    pub(super) kind: &'static str,
    /// The bare names, without what DreamFactory knows of them.
    pub(super) as_list: bool,
}

/// `_schema/NAME`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Schema {
    pub(super) name: Name,
    pub(super) part: Part,
}

/// What of a schema is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    All,
    /// `_field` or `_related`
    Every(&'static str),
    /// `_field/NAME`
    Field(Name),
    /// `_related/NAME`
    Relation(String),
}

/// `_table/NAME`
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    pub(super) name: String,
    /// The member that lists of records are in.
    pub(super) wrapper: Name,
    pub(super) rows: Rows,
    /// `None`: nothing said, or `*`.
    pub(super) fields: Option<Vec<Column>>,
    pub(super) order: Vec<Order>,
    pub(super) group: Vec<Name>,
    pub(super) limit: Option<u64>,
    pub(super) offset: Option<u64>,
    pub(super) include_count: bool,
    pub(super) count_only: bool,
    pub(super) go_on: bool,
    pub(super) rollback: bool,
    pub(super) force: bool,
    /// The answer is a list of the rows' keys: this field's values, which are all that is asked for.
    pub(super) as_list: Option<Name>,
    pub(super) related: Vec<Related>,
    /// Shared: most requests are sent on with the records that they came with.
    pub(super) records: Arc<Vec<Map>>,
}

impl Table {
    /// The records as a body, each compared with what was written; `None` if one is not, and empty without records.
    pub(super) fn body(&self) -> Option<String> {
        let mut out = String::new();
        let bare = matches!(self.rows, Rows::One(_)) && self.records.len() == 1;
        for (at, record) in self.records.iter().enumerate() {
            match at {
                0 if bare => {}
                0 => {
                    out.push('{');
                    Value::from(&*self.wrapper).write(&mut out);
                    out.push_str(":[");
                }
                _ => out.push(','),
            }
            let from = out.len();
            record.write(&mut out);
            if !record.is_written_as(out.get(from..)?.as_bytes()) {
                return None;
            }
        }
        if !bare && !self.records.is_empty() {
            out.push_str("]}");
        }
        Some(out)
    }
}

/// Which rows an operation is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Rows {
    /// All of them; for an update, those whose key is in the body.
    #[default]
    All,
    /// `_table/NAME/ID`
    One(String),
    /// `ids=`
    Ids(Vec<Literal>),
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    Field(Name),
    /// `SUM(x)`; `COUNT(*)` has no field.
    Aggregate(&'static str, Option<Name>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) field: Name,
    pub(super) descending: bool,
    /// `NULLS FIRST` (true) or `LAST`
    pub(super) nulls_first: Option<bool>,
}

/// One relation that is fetched with each row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Related {
    pub(super) name: Name,
    pub(super) component: Name,
    pub(super) fields: Option<Vec<Column>>,
    pub(super) order: Vec<Order>,
    pub(super) limit: Option<u64>,
    /// Fields of the table by which its rows are related: who sees the relation sees their values.
    pub(super) local: Vec<Name>,
    /// Fields of the related table, likewise.
    pub(super) foreign: Vec<Name>,
}

/// `_proc/NAME` and `_func/NAME`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) arguments: Vec<(Name, Value)>,
}

/// A path of a file service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    pub(super) segments: Vec<String>,
    /// The path ends in a slash.
    pub(super) folder: bool,
}
