//! `doorward test`: runs PolicyTest documents.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, process::ExitCode};

use doorward_policy::{bundle::Tables, engine};
use doorward_policy_compiler::document::{
    Spec,
    policy_test::{ExpectedDecision, TestCase},
};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::{
    output::{DIM, Format, GREEN, RED, clean, paint},
    question::{self, Answer, Asker, Request},
    sources::Sources,
};
use crate::host::LocalHost;

/// Run the PolicyTest documents.
///
/// Every test is one request with an assumed identity, decided by the same code as in Envoy. What the test does not
/// expect explicitly is not compared.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES:\n  doorward test policies/\n  doorward test policies/ --only masked\n\n\
    A TEST:\n  kind: PolicyTest\n  metadata: { name: support }\n  spec:\n    tests:\n      \
    - name: support sees its own region only\n        as: { user: john@example.com, attributes: { region: EMEA } }\n        \
    request: { url: https://data.example.com/api/v2/crm/_table/orders }\n        expect: { decision: rewrite }\n\n\
    EXIT CODES:\n  0  all tests passed\n  1  a test failed, or a document has errors\n  2  the command line is wrong")]
pub struct Args {
    /// Files and directories with the policy and its tests, or other sources as KIND:REST.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Run only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Form of the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = Sources::load(&args.paths, "default", &BTreeMap::new())?;
    let errors = sources.errors();
    if errors > 0 {
        sources.report();
    }
    let tables = sources.tables()?;
    let mut out = std::io::stdout().lock();
    let (mut passed, mut failed, mut results) = (0_usize, 0_usize, Vec::new());
    for document in &sources.documents {
        let Spec::PolicyTest(spec) = &document.spec else { continue };
        for (index, case) in spec.tests.iter().enumerate() {
            if args.only.as_ref().is_some_and(|only| !case.name.contains(only.as_str())) {
                continue;
            }
            let line = document.lines.line(&format!("spec.tests[{index}]"));
            let title = format!("{} › {}", document.name, case.name);
            let (want, have) = match decide(&tables, case) {
                Ok((request, answer)) => compared(case, &request, &answer),
                Err(error) => (String::new(), format!("error: {error:#}\n")),
            };
            let good = want == have;
            *(if good { &mut passed } else { &mut failed }) += 1;
            if args.format == Format::Json {
                results.push(json!({
                    "document": document.name, "test": case.name, "file": document.file, "line": line, "passed": good,
                    "expected": want, "actual": have,
                }));
                continue;
            }
            let mark = if good { paint(GREEN, "pass") } else { paint(RED, "FAIL") };
            writeln!(out, "{mark} {}", clean(&title))?;
            if !good {
                writeln!(out, "     {}", paint(DIM, &format!("{}:{line}", document.file)))?;
                for change in TextDiff::from_lines(&want, &have).iter_all_changes() {
                    let text = clean(change.value().trim_end_matches('\n'));
                    let line = match change.tag() {
                        ChangeTag::Equal => format!("       {text}"),
                        ChangeTag::Delete => paint(RED, &format!("     - {text}")),
                        ChangeTag::Insert => paint(GREEN, &format!("     + {text}")),
                    };
                    writeln!(out, "{line}")?;
                }
            }
        }
    }
    if args.format == Format::Json {
        let answer = json!({"passed": passed, "failed": failed, "errors": errors, "tests": results});
        writeln!(out, "{answer:#}")?;
    } else {
        writeln!(out, "{passed} passed, {failed} failed")?;
    }
    drop(out);
    if passed + failed == 0 {
        eprintln!("error: no test ran; add a document of kind PolicyTest, or check --only");
    }
    let good = failed == 0 && errors == 0 && passed > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn decide(tables: &Tables, case: &TestCase) -> anyhow::Result<(Request, Answer)> {
    let asked = &case.request;
    let mut request = Request {
        method: asked.method.clone().unwrap_or_else(|| "GET".into()),
        authority: asked.authority.clone().unwrap_or_default(),
        path: asked.path.clone().unwrap_or_else(|| "/".into()),
        headers: asked.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        body: asked.body.as_ref().map(|body| match body {
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        }),
        source: "127.0.0.1".into(),
    };
    if let Some(url) = &asked.url {
        request.set_url(url)?;
    }
    if let Some(role) = &asked.role {
        request.headers.push((engine::ROLE_HEADER.into(), role.clone()));
    }
    request.describe_body();
    // A proxy without a tokenisation key denies more; tests are about the policy.
    let settings = engine::Settings { tokenization_key: true, ..engine::Settings::default() };
    let host = LocalHost::at(case.at.as_ref().map(|at| at.0));
    let answer = question::ask(tables, &host, &settings, &Asker::As(Box::new(case.identity.clone())), &request)?;
    Ok((request, answer))
}

/// What was expected and what came, as text of the same shape: equal where the test passes.
fn compared(case: &TestCase, request: &Request, answer: &Answer) -> (String, String) {
    let (mut want, mut have) = (String::new(), String::new());
    let mut both = |name: &str, expected: &str, actual: &str| {
        want.push_str(&format!("{name}: {expected}\n"));
        have.push_str(&format!("{name}: {actual}\n"));
    };
    let actual = answer.outcome();
    let expect = &case.expect;
    let expected = match expect.decision {
        ExpectedDecision::Allow if actual == "rewrite" => "rewrite",
        ExpectedDecision::Allow => "allow",
        ExpectedDecision::Rewrite => "rewrite",
        ExpectedDecision::Deny => "deny",
    };
    let code = answer.denial().map_or("", |denial| denial.code.as_str());
    both("decision", expected, actual);
    if let Some(expected) = &expect.code {
        both("code", expected, code);
    }
    if let Some(expected) = &expect.role {
        both("role", expected, &answer.verdict.record.role);
    }
    if let Some(expected) = &expect.path {
        // One parameter a line, so that the difference is seen.
        let lines = |path: &str| path.replace('?', "\n  ?").replace('&', "\n  &");
        both("path", &lines(expected), &lines(answer.path(request)));
    }
    if let Some(expected) = &expect.body {
        let body = answer.body(request).unwrap_or_default();
        match expected {
            Value::String(text) => both("body", text, &String::from_utf8_lossy(body)),
            value => match serde_json::from_slice::<Value>(body) {
                // Equal as JSON is equal, whatever the order of members.
                Ok(have) if have == *value => both("body", &format!("{value:#}"), &format!("{value:#}")),
                Ok(have) => both("body", &format!("{value:#}"), &format!("{have:#}")),
                Err(_) => both("body", &format!("{value:#}"), &String::from_utf8_lossy(body)),
            },
        }
    }
    if want != have
        && let Some(denial) = answer.denial()
    {
        if expect.code.is_none() {
            have.push_str(&format!("code: {code}\n"));
        }
        have.push_str(&format!("detail: {}\n", denial.detail));
    }
    (want, have)
}
