//! An Envoy's configuration dump as plain types: what of it identity and safety depend on.

pub mod cluster;
pub mod filter;
pub mod listener;
pub mod route;

use std::{collections::BTreeMap, rc::Rc};

use serde_json::Value;

use self::{
    cluster::Cluster,
    listener::{Manager, References, TcpProxy},
    route::RouteTable,
};
use super::json::Node;

/// Why a text is not a dump that can be checked.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It is not JSON, or nested too deeply.
    #[error("it is not JSON: {0}")]
    Json(serde_json::Error),
    /// It has no list of sections.
    #[error(
        "it is not a configuration dump: it has no `configs`. Take `curl localhost:15000/config_dump?include_eds`, or \
         `istioctl proxy-config all -o json`"
    )]
    Form,
    /// A section is not there.
    #[error("it has no {0}. Take the whole dump, not a part of it (no `resource=`, no `mask=`)")]
    Section(&'static str),
}

/// The version of an Envoy: major, minor, patch.
pub type Version = (u64, u64, u64);

/// What the dump says.
#[derive(Clone, Debug, Default)]
pub struct Dump {
    /// `node.id`
    pub node: String,
    /// The version, if the dump tells it.
    pub version: Option<Version>,
    /// Names of all listeners.
    pub listeners: Vec<String>,
    /// All HTTP connection managers.
    pub managers: Vec<Manager>,
    /// All chains that look at no request.
    pub tcp: Vec<TcpProxy>,
    /// Clusters by name.
    pub clusters: BTreeMap<String, Cluster>,
    /// What this Envoy rejected the newest version of, such as `listener data`.
    pub rejected: Vec<String>,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// It is none, or not a whole one.
    pub fn parse(json: &[u8]) -> Result<Self, DumpError> {
        let value: Value = serde_json::from_slice(json).map_err(DumpError::Json)?;
        let root = Node::new(&value);
        if root.get("configs").value().and_then(Value::as_array).is_none() {
            return Err(DumpError::Form);
        }
        let sections = |name: &'static str| {
            root.get("configs").items().filter(move |section| section.unpacked().0.ends_with(name)).collect::<Vec<_>>()
        };
        let (listeners, clusters) = (sections(".ListenersConfigDump"), sections(".ClustersConfigDump"));
        if listeners.is_empty() {
            return Err(DumpError::Section("listeners"));
        }
        if clusters.is_empty() {
            return Err(DumpError::Section("clusters"));
        }
        let mut dump = Self::default();
        for bootstrap in sections(".BootstrapConfigDump") {
            dump.bootstrap(bootstrap.at(&["bootstrap", "node"]));
        }
        for section in &clusters {
            dump.clusters(*section);
        }
        for section in sections(".EndpointsConfigDump") {
            dump.endpoints(section);
        }
        let mut references = References { tables: BTreeMap::new(), discovered: BTreeMap::new() };
        for section in sections(".RoutesConfigDump") {
            for one in
                ["static_route_configs", "dynamic_route_configs"].iter().flat_map(|list| section.get(list).items())
            {
                dump.rejected("route table", one, one.at(&["route_config", "name"]).text());
                let table = one.get("route_config").unpacked().1;
                // Each listener with the same table of its own has it once more here.
                let read = || Rc::new(RouteTable::read(table));
                references.tables.entry(table.get("name").owned()).or_insert_with(read);
            }
        }
        for section in sections(".EcdsConfigDump") {
            for one in section.get("ecds_filters").items() {
                let (_, extension) = one.get("ecds_filter").unpacked();
                let name = extension.get("name").text();
                dump.rejected("extension", one, name);
                if extension.get("typed_config").is_there() {
                    references.discovered.insert(name, extension.get("typed_config"));
                }
            }
        }
        for section in listeners {
            dump.listeners(section, &references);
        }
        Ok(dump)
    }

    fn bootstrap(&mut self, node: Node<'_>) {
        self.node = node.get("id").owned();
        let version = node.at(&["user_agent_build_version", "version"]);
        let part = |name: &str| version.get(name).number().unwrap_or_default();
        if version.is_there() {
            self.version = Some((part("major_number"), part("minor_number"), part("patch")));
        }
    }

    fn clusters(&mut self, section: Node<'_>) {
        // What is in force comes last, so that it counts where there are two.
        for list in ["dynamic_warming_clusters", "dynamic_active_clusters", "static_clusters"] {
            for one in section.get(list).items() {
                let cluster = Cluster::read(one.get("cluster").unpacked().1);
                self.rejected("cluster", one, &cluster.name);
                if !cluster.name.is_empty() {
                    self.clusters.insert(cluster.name.clone(), cluster);
                }
            }
        }
    }

    fn endpoints(&mut self, section: Node<'_>) {
        for list in ["static_endpoint_configs", "dynamic_endpoint_configs"] {
            for one in section.get(list).items() {
                let (_, assignment) = one.get("endpoint_config").unpacked();
                if let Some(cluster) = self.clusters.get_mut(assignment.get("cluster_name").text()) {
                    cluster.discovered(assignment);
                }
            }
        }
    }

    fn listeners(&mut self, section: Node<'_>, references: &References<'_>) {
        let fixed = section.get("static_listeners").items().map(|one| (one, one.get("listener"), ""));
        let dynamic = section.get("dynamic_listeners").items().map(|one| {
            let state = ["active_state", "warming_state"].iter().map(|state| one.get(state)).find(|s| s.is_there());
            let listener = state.map_or(one.get("none"), |state| state.get("listener"));
            (one, listener, one.get("name").text())
        });
        for (one, packed, name) in fixed.chain(dynamic) {
            let (_, listener) = packed.unpacked();
            let own = listener.get("name").text();
            self.rejected("listener", one, if own.is_empty() { name } else { own });
            if listener.is_there() {
                self.listeners.push(own.to_owned());
                listener::read(listener, references, &mut self.managers, &mut self.tcp);
            }
        }
    }

    /// Of what is wrong with the rejected version, Envoy's text may quote the configuration, with what is secret there.
    fn rejected(&mut self, what: &str, of: Node<'_>, name: &str) {
        if of.get("error_state").is_there() {
            self.rejected.push(format!("{what} {name}"));
        }
    }
}
