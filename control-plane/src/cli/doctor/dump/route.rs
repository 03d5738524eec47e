//! Route tables: what happens to a request after the filters.

use std::collections::{BTreeMap, BTreeSet};

use super::super::json::Node;

/// One level of a route table: the table itself, a virtual host, a route, or a cluster of a weighted route.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// Where it stands, from the table's name down.
    pub place: String,
    /// Clusters that requests go to.
    pub clusters: Vec<String>,
    /// The header by which the caller would choose the cluster.
    pub cluster_header: String,
    /// The members that write the path anew.
    pub path_rewrites: Vec<&'static str>,
    /// The members that write the host anew to what the operator says.
    pub host_rewrites: Vec<&'static str>,
    /// The members that write the host anew to what the request says.
    pub host_from_request: Vec<&'static str>,
    /// Request headers that are added or removed, in lower case.
    pub headers: Vec<String>,
    /// Copies of the request go elsewhere.
    pub mirrors: bool,
    /// `retry_on`; "" if there is none.
    pub retry_on: String,
    /// Redirects of the upstream are followed.
    pub internal_redirects: bool,
    /// `upgrade_type`s that are on.
    pub upgrades: Vec<String>,
    /// Filters that are turned off here, by the name that they have in the chain.
    pub disabled: Vec<String>,
}

/// A table, with what of it is about more than one route.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    /// All levels.
    pub routes: Vec<Route>,
    /// Clusters of all routes, each once: many listeners may share a table of many routes.
    pub destinations: BTreeSet<String>,
    /// Virtual hosts.
    pub virtual_hosts: usize,
    /// The port in a request's host does not count.
    pub ignores_port: bool,
}

const PATH: [&str; 4] = ["prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite"];
const HOST: [&str; 2] = ["host_rewrite_literal", "auto_host_rewrite"];
const HOST_FROM_REQUEST: [&str; 3] = ["host_rewrite_header", "host_rewrite_path_regex", "host_rewrite"];

impl RouteTable {
    /// Reads a `RouteConfiguration`.
    pub fn read(table: Node<'_>) -> Self {
        let name = Some(table.get("name").text()).filter(|name| !name.is_empty()).unwrap_or("inline");
        let mut found = Self { ignores_port: table.get("ignore_port_in_host_matching").flag(), ..Self::default() };
        found.routes.push(level(name, table));
        for host in table.get("virtual_hosts").items() {
            found.virtual_hosts += 1;
            let place = format!("{name}/{}", host.get("name").text());
            found.routes.push(level(&place, host));
            for (at, route) in host.get("routes").items().enumerate() {
                found.route(&format!("{place}/{}", title(at, route)), route);
            }
        }
        found.destinations = found.routes.iter().flat_map(|route| route.clusters.iter().cloned()).collect();
        found
    }

    fn route(&mut self, place: &str, route: Node<'_>) {
        let action = route.get("route");
        let there =
            |names: &[&'static str]| names.iter().copied().filter(|name| set(action.get(name))).collect::<Vec<_>>();
        let mut read = level(place, route);
        read.clusters.extend(cluster(action.get("cluster")));
        read.cluster_header = action.get("cluster_header").owned();
        read.path_rewrites = there(&PATH);
        read.host_rewrites = there(&HOST);
        read.host_from_request = there(&HOST_FROM_REQUEST);
        read.mirrors |= mirrors(action);
        read.internal_redirects = action.get("internal_redirect_policy").is_there();
        if action.get("retry_policy").is_there() {
            read.retry_on = action.at(&["retry_policy", "retry_on"]).owned();
        }
        read.upgrades = upgrades(action);
        let weighted = action.at(&["weighted_clusters", "clusters"]);
        for one in weighted.items() {
            let name = one.get("name").text();
            read.clusters.extend(cluster(one.get("name")));
            let mut level = level(&format!("{place}/{name}"), one);
            level.cluster_header = one.get("cluster_header").owned();
            level.host_rewrites =
                if set(one.get("host_rewrite_literal")) { vec!["host_rewrite_literal"] } else { vec![] };
            self.routes.push(level);
        }
        self.routes.push(read);
    }
}

/// `upgrade_type`s of `upgrade_configs` that are on.
pub fn upgrades(of: Node<'_>) -> Vec<String> {
    let on = |one: &Node<'_>| one.get("enabled").value().is_none_or(|value| value.as_bool() != Some(false));
    of.get("upgrade_configs").items().filter(on).map(|one| one.get("upgrade_type").owned()).collect()
}

/// What every level may have.
fn level(place: &str, node: Node<'_>) -> Route {
    let added = node.get("request_headers_to_add").items().map(|one| one.at(&["header", "key"]).text());
    let removed = node.get("request_headers_to_remove").items().map(Node::text);
    let off = |(name, config): (&str, Node<'_>)| {
        let (kind, body) = config.unpacked();
        (kind == "envoy.config.route.v3.FilterConfig" && body.get("disabled").flag()).then(|| name.to_owned())
    };
    Route {
        place: place.to_owned(),
        headers: added.chain(removed).map(str::to_ascii_lowercase).collect(),
        mirrors: mirrors(node),
        retry_on: node.at(&["retry_policy", "retry_on"]).owned(),
        disabled: node.get("typed_per_filter_config").entries().filter_map(off).collect(),
        ..Route::default()
    }
}

/// A match in a word, where a route has no name.
fn title(at: usize, route: Node<'_>) -> String {
    let name = route.get("name").text();
    if !name.is_empty() {
        return name.to_owned();
    }
    let matched = route.get("match");
    let form = ["prefix", "path", "path_separated_prefix"].iter().find_map(|form| {
        let text = matched.get(form).text();
        (!text.is_empty()).then(|| format!("{at} ({form} {text})"))
    });
    form.unwrap_or_else(|| at.to_string())
}

fn cluster(node: Node<'_>) -> Option<String> {
    Some(node.owned()).filter(|name| !name.is_empty())
}

fn mirrors(node: Node<'_>) -> bool {
    node.get("request_mirror_policies").items().next().is_some()
}

/// There, and not the default of its type.
fn set(node: Node<'_>) -> bool {
    node.value().is_some_and(|value| value.as_bool() != Some(false) && value.as_str() != Some(""))
}

/// Tables by name.
pub type Tables = BTreeMap<String, std::rc::Rc<RouteTable>>;
