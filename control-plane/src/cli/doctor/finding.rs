//! What the rules are asked about, and what they answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    dump::{
        Dump,
        filter::HttpFilter,
        listener::Manager,
        route::{Route, RouteTable},
    },
    plugin::{Plugin, is_doorward},
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A request can pass without a decision, or another one than was decided on goes upstream, or nothing works.
    Error,
    /// A defence is missing that has a second line behind it, or that only some policies need; or something is not well.
    Warning,
}

impl Severity {
    /// As the command prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One thing that can be wrong.
pub struct Rule {
    /// Stable name.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means, a sentence.
    pub means: &'static str,
    /// What to do, a sentence.
    pub remedy: &'static str,
    /// Where it is so.
    pub check: fn(&Subject<'_>) -> Vec<Spot>,
}

/// Where something is wrong, and what is special about it there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// From the outermost part inwards: kind and name.
    pub place: Vec<(&'static str, String)>,
    /// What was found there; may be "".
    pub detail: String,
}

impl Spot {
    /// The Envoy as a whole.
    pub fn envoy(detail: impl Into<String>) -> Self {
        Self { place: Vec::new(), detail: detail.into() }
    }

    /// An HTTP connection manager.
    pub fn manager(manager: &Manager, detail: impl Into<String>) -> Self {
        let (listener, chain) = (manager.listener.clone(), manager.chain.clone());
        Self { place: vec![("listener", listener), ("chain", chain)], detail: detail.into() }
    }

    /// Something further inside.
    pub fn inside(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        self.place.push((kind, name.into()));
        self
    }

    /// A cluster.
    pub fn cluster(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: vec![("cluster", name.into())], detail: detail.into() }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str("this Envoy")?;
        }
        for (at, (kind, name)) in self.place.iter().enumerate() {
            write!(f, "{}{kind} {name}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// What a running Envoy says about itself.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// `/ready` says so.
    pub ready: bool,
    /// Statistics about Wasm by name; no histograms.
    pub stats: BTreeMap<String, u64>,
    /// Worker threads.
    pub workers: u64,
}

impl Live {
    /// One of the filter's metrics.
    pub fn metric(&self, prefix: &str, name: &str) -> Option<u64> {
        self.stats.get(&format!("wasmcustom.{prefix}.{name}")).copied()
    }
}

/// Doorward's filter in a chain.
pub struct Guard<'a> {
    /// The chain.
    pub manager: &'a Manager,
    /// Its place among the filters, from 0.
    pub index: usize,
    /// The filter.
    pub filter: &'a HttpFilter,
    /// Its configuration; none while discovery has not given it, or gave something else.
    pub plugin: Option<Plugin>,
}

impl Guard<'_> {
    /// Where it is.
    pub fn spot(&self, detail: impl Into<String>) -> Spot {
        Spot::manager(self.manager, detail).inside("filter", self.filter.name.clone())
    }

    /// Doorward's own configuration, if it is valid.
    pub fn config(&self) -> Option<&doorward_filter::config::Config> {
        self.plugin.as_ref()?.config.as_ref().ok()
    }
}

/// All that the rules look at.
pub struct Subject<'a> {
    /// The dump.
    pub dump: &'a Dump,
    /// What the Envoy says, if it was asked.
    pub live: Option<&'a Live>,
    /// Listeners that must have the filter.
    pub wanted: &'a [String],
    /// Every filter of ours.
    pub guards: Vec<Guard<'a>>,
    /// Clusters that requests reach through a filter of ours.
    pub protected: BTreeSet<&'a str>,
}

impl<'a> Subject<'a> {
    /// Finds the filters of ours, and what they protect.
    pub fn new(dump: &'a Dump, live: Option<&'a Live>, wanted: &'a [String]) -> Self {
        let mut guards = Vec::new();
        for manager in &dump.managers {
            for (index, filter) in manager.filters.iter().enumerate().filter(|(_, filter)| is_doorward(filter)) {
                guards.push(Guard { manager, index, filter, plugin: filter.wasm.as_ref().map(Plugin::read) });
            }
        }
        let open = |name: &&str| dump.clusters.get(*name).is_none_or(|cluster| !cluster.original_destination);
        let mut protected = BTreeSet::new();
        for guard in &guards {
            let manager: &'a Manager = guard.manager;
            protected.extend(clusters(manager).filter(open));
        }
        Self { dump, live, wanted, guards, protected }
    }

    /// Managers without a filter of ours.
    pub fn unguarded(&self) -> impl Iterator<Item = &'a Manager> {
        self.dump.managers.iter().filter(|manager| !self.is_guarded(manager))
    }

    /// Whether a filter of ours is in this chain.
    pub fn is_guarded(&self, manager: &Manager) -> bool {
        self.guards.iter().any(|guard| std::ptr::eq(guard.manager, manager))
    }

    /// Managers with a filter of ours, each once.
    pub fn guarded(&self) -> impl Iterator<Item = &'a Manager> {
        self.dump.managers.iter().filter(|manager| self.is_guarded(manager))
    }

    /// Route tables behind a filter of ours, each with one of the managers that use it.
    pub fn tables(&self) -> Vec<(&'a Manager, &'a RouteTable)> {
        let mut seen = BTreeSet::new();
        let all = self.guarded().filter_map(|manager| Some((manager, manager.routes.as_deref()?)));
        all.filter(|(_, table)| seen.insert(std::ptr::from_ref(*table))).collect()
    }

    /// Routes behind a filter of ours.
    pub fn routes(&self) -> impl Iterator<Item = (&'a Manager, &'a Route)> {
        self.tables().into_iter().flat_map(|(manager, table)| table.routes.iter().map(move |route| (manager, route)))
    }
}

/// Where the routes of a manager lead.
pub fn clusters(manager: &Manager) -> impl Iterator<Item = &str> {
    manager.routes.iter().flat_map(|table| table.destinations.iter().map(String::as_str))
}

/// A rule that is broken, and where.
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// Where; at least one.
    pub spots: Vec<Spot>,
    /// The operator knows, and wants it so.
    pub allowed: bool,
}
