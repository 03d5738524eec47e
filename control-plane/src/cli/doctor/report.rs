//! The answer, for people and as JSON.

use std::io::{Result, Write};

use doorward_filter::config::{Bodies, Choice, MeshIdentity};
use serde_json::{Map, Value, json};

use super::{
    super::output::{BOLD, DIM, GREEN, RED, YELLOW, clean, paint},
    finding::{Finding, Guard, Severity, Spot, Subject},
};

/// So many places of one finding are printed for people; JSON has all.
const SHOWN: usize = 12;

/// Characters of a place or a detail that are printed for people.
const LENGTH: usize = 300;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Rules of severity error that are broken and not allowed.
    pub errors: usize,
    /// The same of warnings.
    pub warnings: usize,
}

impl Counts {
    /// Counts.
    pub fn of(findings: &[Finding]) -> Self {
        let count = |severity| findings.iter().filter(|one| !one.allowed && one.rule.severity == severity).count();
        Self { errors: count(Severity::Error), warnings: count(Severity::Warning) }
    }
}

/// Prints for people.
///
/// # Errors
/// Nothing can be written.
pub fn text(out: &mut dyn Write, subject: &Subject<'_>, findings: &[Finding]) -> Result<()> {
    let dump = subject.dump;
    let version = dump.version.map_or("of an unknown version".to_owned(), |(a, b, c)| format!("{a}.{b}.{c}"));
    let asked = if subject.live.is_some() { "running" } else { "as dumped" };
    writeln!(out, "{} {version}, node {}, {asked}", paint(BOLD, "Envoy"), shown(&dump.node))?;
    // Istio has several chains of one name, which are alike.
    let mut guarded = Vec::new();
    for guard in &subject.guards {
        let line = format!("{}: {}", Spot::manager(guard.manager, ""), told(guard));
        if !guarded.contains(&line) {
            guarded.push(line);
        }
    }
    for line in guarded.iter().take(SHOWN) {
        writeln!(out, "  {} {}", paint(GREEN, "with Doorward"), shown(line))?;
    }
    more(out, guarded.len(), "  ")?;
    for manager in subject.unguarded().take(SHOWN) {
        let spot = Spot::manager(manager, "").to_string();
        writeln!(out, "  {} {}", paint(DIM, "without Doorward"), shown(&spot))?;
    }
    more(out, subject.unguarded().count(), "  ")?;
    for finding in findings {
        let style = match (finding.allowed, finding.rule.severity) {
            (true, _) => DIM,
            (false, Severity::Error) => RED,
            (false, Severity::Warning) => YELLOW,
        };
        let allowed = if finding.allowed { ", allowed" } else { "" };
        let title = format!("{}: {}{allowed}", finding.rule.severity.as_str(), finding.rule.code);
        writeln!(out, "\n{}\n  {}", paint(style, &title), finding.rule.means)?;
        for spot in finding.spots.iter().take(SHOWN) {
            let detail = if spot.detail.is_empty() { String::new() } else { format!(": {}", spot.detail) };
            writeln!(out, "  at  {}{}", shown(&spot.to_string()), shown(&detail))?;
        }
        more(out, finding.spots.len(), "  at  ")?;
        writeln!(out, "  do  {}", finding.rule.remedy)?;
    }
    let Counts { errors, warnings } = Counts::of(findings);
    let verdict = match (errors, warnings) {
        (0, 0) => paint(GREEN, "clean"),
        (0, _) => paint(YELLOW, "no errors"),
        _ => paint(RED, "not safe, or not working"),
    };
    writeln!(out, "\n{verdict}: {errors} errors, {warnings} warnings")
}

/// Names that others chose, safe to print and of a length that can be read.
fn shown(text: &str) -> String {
    let mut all = clean(text);
    if let Some((at, _)) = all.char_indices().nth(LENGTH) {
        all.truncate(at);
        all.push('…');
    }
    all
}

fn more(out: &mut dyn Write, all: usize, before: &str) -> Result<()> {
    match all.saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "{before}and {more} more (--output json has all)"),
    }
}

/// What a filter does, in a line.
fn told(guard: &Guard<'_>) -> String {
    let place = format!("filter {} of {}", guard.index + 1, guard.manager.filters.len());
    let Some(plugin) = &guard.plugin else { return place };
    let failure = plugin.failure.as_str();
    let Ok(config) = &plugin.config else { return format!("{place}, {failure}") };
    let mut parts = vec![place, failure.to_owned(), format!("scope {}", config.scope)];
    parts.push(format!("control plane {}", config.control_plane.cluster));
    parts.push(format!("bodies {}", bodies(config.bodies)));
    if config.mesh_identity != MeshIdentity::Ignore {
        parts.push(format!("mesh identity {}", mesh(config.mesh_identity)));
    }
    let passing = [(config.unmatched, "unmatched"), (config.unidentified, "unidentified")];
    parts
        .extend(passing.iter().filter(|(choice, _)| *choice == Choice::Allow).map(|(_, name)| format!("{name} allow")));
    parts.join(", ")
}

fn bodies(bodies: Bodies) -> &'static str {
    match bodies {
        Bodies::StopIteration => "stop-iteration",
        Bodies::None => "none",
    }
}

fn mesh(mesh: MeshIdentity) -> &'static str {
    match mesh {
        MeshIdentity::Ignore => "ignore",
        MeshIdentity::Record => "record",
        MeshIdentity::Agent => "agent",
    }
}

fn choice(choice: Choice) -> &'static str {
    if choice == Choice::Allow { "allow" } else { "deny" }
}

/// The same as one JSON value.
pub fn as_json(subject: &Subject<'_>, findings: &[Finding]) -> Value {
    let Counts { errors, warnings } = Counts::of(findings);
    let chains = subject.dump.managers.iter().map(|manager| {
        let guards = subject.guards.iter().filter(|guard| std::ptr::eq(guard.manager, manager));
        let doorward: Vec<Value> = guards.map(filter).collect();
        json!({"listener": manager.listener, "chain": manager.chain, "doorward": doorward})
    });
    let version = subject.dump.version.map(|(a, b, c)| format!("{a}.{b}.{c}"));
    let spots = |finding: &Finding| {
        let rule = finding.rule;
        let one = |spot: &Spot| {
            let place: Map<String, Value> =
                spot.place.iter().map(|(kind, name)| ((*kind).to_owned(), name.clone().into())).collect();
            json!({
                "severity": rule.severity.as_str(), "code": rule.code, "allowed": finding.allowed, "place": place,
                "message": rule.means, "detail": spot.detail, "remedy": rule.remedy,
            })
        };
        finding.spots.iter().map(one).collect::<Vec<_>>()
    };
    json!({
        "envoy": {"node": subject.dump.node, "version": version, "live": subject.live.is_some()},
        "errors": errors,
        "warnings": warnings,
        "chains": chains.collect::<Vec<_>>(),
        "findings": findings.iter().flat_map(spots).collect::<Vec<_>>(),
    })
}

fn filter(guard: &Guard<'_>) -> Value {
    let mut members = Map::new();
    members.insert("filter".into(), guard.filter.name.clone().into());
    members.insert("position".into(), (guard.index + 1).into());
    members.insert("filters".into(), guard.manager.filters.len().into());
    if let Some(plugin) = &guard.plugin {
        members.insert("failurePolicy".into(), plugin.failure.as_str().into());
        members.insert("stopIteration".into(), plugin.stop_iteration.into());
    }
    if let Some(config) = guard.config() {
        members.insert("scope".into(), config.scope.clone().into());
        members.insert("controlPlane".into(), config.control_plane.cluster.clone().into());
        members.insert("bodies".into(), bodies(config.bodies).into());
        members.insert("meshIdentity".into(), mesh(config.mesh_identity).into());
        members.insert("unmatched".into(), choice(config.unmatched).into());
        members.insert("unidentified".into(), choice(config.unidentified).into());
        let ids: Vec<Value> = config.policy_keys.iter().map(|key| key.id.clone().into()).collect();
        members.insert("policyKeys".into(), ids.into());
    }
    members.into()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            dump::{Dump, listener::TcpProxy},
            finding::Rule,
        },
        *,
    };

    static RULE: Rule =
        Rule { code: "code", severity: Severity::Warning, means: "It means.", remedy: "Do.", check: |_| Vec::new() };

    #[test]
    fn people_get_a_readable_part_and_json_all_of_it() {
        let tcp = TcpProxy { listener: "a".into(), chain: "b".into(), clusters: vec![] };
        let dump = Dump { node: "n\x1b[31m".into(), tcp: vec![tcp], ..Dump::default() };
        let subject = Subject::new(&dump, None, &[]);
        let spots = (0..20).map(|at| Spot::cluster(format!("c{at}"), "x".repeat(500))).collect();
        let findings = [Finding { rule: &RULE, spots, allowed: false }];
        let mut out = Vec::new();
        text(&mut out, &subject, &findings).unwrap();
        let printed = String::from_utf8(out).unwrap();
        assert!(
            !printed.contains('\x1b') && printed.contains("warning: code\n  It means.\n  at  cluster c0: xxx"),
            "{printed}"
        );
        assert!(printed.contains("cluster c11") && !printed.contains("cluster c12") && printed.contains("and 8 more"));
        assert!(printed.contains("no errors: 0 errors, 1 warnings") && printed.lines().all(|line| line.len() < 350));
        let json = as_json(&subject, &findings);
        assert_eq!(json["findings"].as_array().unwrap().len(), 20);
        assert_eq!(json["findings"][19]["place"]["cluster"], "c19");
        assert_eq!(json["findings"][19]["detail"].as_str().unwrap().len(), 500);
    }
}
