//! Answers of the filter itself: RFC 9457 problem documents.

use crate::proxy::Proxy;
use doorward_policy::code::{Code, Denial};

/// Answers the request of the effective context with a denial.
#[inline(never)]
pub fn deny(proxy: &impl Proxy, denial: &Denial, decision_id: &str) {
    let retry_after = denial.retry_after.unwrap_or(1).to_string();
    let mut headers = headers(decision_id);
    match denial.code.status() {
        401 => headers.push(("www-authenticate", challenge(denial.code))),
        429 => headers.push(("retry-after", &retry_after)),
        _ => {}
    }
    let body = document(denial.code.status(), denial.code.as_str(), &denial.detail, decision_id);
    let _ = proxy.send_local_response(denial.code.status(), denial.code.as_str(), &headers, body.as_bytes());
}

/// Puts an own document in the place of an upstream error, whose text may quote what the caller may not see.
pub fn hide_error(proxy: &impl Proxy, status: u16, decision_id: &str) {
    let detail = "The data service answered with an error; its text is withheld, because it may show what is hidden.";
    let body = document(status, "upstream_error", detail, decision_id);
    let _ = proxy.send_local_response(status, "upstream_error", &headers(decision_id), body.as_bytes());
}

/// Answers a preflight in the place of an upstream that sent more than headers.
pub fn answer_preflight(proxy: &impl Proxy, status: u16, headers: &[(&str, &str)]) {
    let _ = proxy.send_local_response(status, "preflight", headers, b"");
}

/// Answers that there is no such record: the same whether it does not exist or is out of the caller's reach.
pub fn absent(proxy: &impl Proxy, decision_id: &str) {
    let detail = "There is no record with this key.";
    let body = document(404, "not_found", detail, decision_id);
    let _ = proxy.send_local_response(404, "not_found", &headers(decision_id), body.as_bytes());
}

fn headers(decision_id: &str) -> Vec<(&str, &str)> {
    let mut headers = vec![("content-type", "application/problem+json"), ("cache-control", "no-store")];
    if !decision_id.is_empty() {
        headers.push(("x-doorward-decision", decision_id));
    }
    headers
}

/// RFC 6750, section 3: no error code where no credential came.
fn challenge(code: Code) -> &'static str {
    match code {
        Code::CredentialMissing => "Bearer realm=\"doorward\"",
        _ => "Bearer realm=\"doorward\", error=\"invalid_token\"",
    }
}

fn document(status: u16, code: &str, detail: &str, decision_id: &str) -> String {
    let mut title = code.replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    serde_json::json!({
        "type": format!("https://doorward.dev/codes/{code}"),
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "decision_id": decision_id,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_code_and_its_decision() {
        let text = document(403, "field_denied", "Field \"ssn\" is hidden.", "id");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["title"], "Field denied");
        assert_eq!(value["code"], "field_denied");
        assert_eq!(value["status"], 403);
        assert_eq!(value["decision_id"], "id");
        assert_eq!(challenge(Code::CredentialMissing), "Bearer realm=\"doorward\"");
    }
}
