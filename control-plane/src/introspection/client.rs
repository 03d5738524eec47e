//! One question to one provider. Neither the token nor the secret, nor what the provider wrote, reaches a log or an error.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Client, StatusCode, Url, header};
use serde::Deserialize;
use tokio::time::timeout;

use super::settings::{Secret, Settings};
use crate::{outbound, regular};
use doorward_policy_compiler::document::identity_provider::SECRET_PREFIX;

/// Bytes that an answer may have at most.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
const MAX_SECRET_BYTES: usize = 4 << 10;
/// Longer than the deadline of any provider.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// No provider of the policy in force that can be asked has this name.
    #[error("unknown_provider")]
    UnknownProvider,
    /// Too many questions are open.
    #[error("busy")]
    Busy,
    /// The address is no URL, or nothing may be sent there.
    #[error("address")]
    Address,
    /// The client's secret cannot be read.
    #[error("secret")]
    Secret,
    /// No answer came in time.
    #[error("timeout")]
    Timeout,
    /// There is no connection, or it broke.
    #[error("connection")]
    Connection,
    /// The provider refused the client (401, 403).
    #[error("refused")]
    Refused,
    /// Another status than 200; redirects are not followed.
    #[error("status")]
    Status,
    /// It is not JSON by its content type.
    #[error("content_type")]
    ContentType,
    /// It is longer than [`MAX_ANSWER_BYTES`].
    #[error("too_large")]
    TooLarge,
    /// It is no JSON object with a boolean `active`.
    #[error("malformed")]
    Malformed,
    /// A defect of this program.
    #[error("internal")]
    Internal,
}

/// What a provider said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// JSON, as given.
    pub body: Vec<u8>,
    /// Whether the token is good.
    pub active: bool,
}

/// Asks providers.
#[derive(Debug, Clone)]
pub struct Asker {
    client: Client,
    insecure: bool,
    secrets: Option<PathBuf>,
}

impl Asker {
    /// `insecure`: plain HTTP may leave this machine. `authorities`: additional roots, PEM. `secrets`: the only folder whose
    /// files are sent as secrets; without it none is.
    ///
    /// # Errors
    /// The authorities cannot be read, or TLS cannot be set up.
    pub fn new(insecure: bool, authorities: Option<&[u8]>, secrets: Option<PathBuf>) -> reqwest::Result<Self> {
        Ok(Self { client: outbound::client(CLIENT_TIMEOUT, authorities)?, insecure, secrets })
    }

    /// What the provider says of this token.
    ///
    /// # Errors
    /// It gave no answer that can be used.
    pub async fn ask(&self, settings: &Settings, token: &str) -> Result<Answer, Unanswered> {
        timeout(settings.timeout, self.asked(settings, token)).await.unwrap_or(Err(Unanswered::Timeout))
    }

    async fn asked(&self, settings: &Settings, token: &str) -> Result<Answer, Unanswered> {
        let url = Url::parse(&settings.url).map_err(|_| Unanswered::Address)?;
        if outbound::allowed(&url, self.insecure).is_err() || !url.username().is_empty() || url.password().is_some() {
            return Err(Unanswered::Address);
        }
        let secret = read(&settings.secret, self.secrets.as_deref()).await?;
        // RFC 7662, 2.1, and RFC 6749, 2.3.1: id and secret are form-encoded before they are joined.
        let form = format!("token={}&token_type_hint=access_token", encoded(token));
        let request = self
            .client
            .post(url)
            .basic_auth(encoded(&settings.client_id), Some(encoded(&secret)))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form);
        let mut response = request.send().await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Unanswered::Refused),
            _ => return Err(Unanswered::Status),
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err(Unanswered::ContentType);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len().saturating_add(chunk.len()) > MAX_ANSWER_BYTES {
                return Err(Unanswered::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let active = active(&body).ok_or(Unanswered::Malformed)?;
        Ok(Answer { body, active })
    }
}

/// An error's own text may repeat the address, so only its kind goes on.
fn broken(error: reqwest::Error) -> Unanswered {
    if error.is_timeout() { Unanswered::Timeout } else { Unanswered::Connection }
}

/// `active` of an answer; none if it is no JSON object with a boolean of this name, once.
fn active(body: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    struct Answer {
        active: bool,
    }
    let text = std::str::from_utf8(body).ok()?;
    // A list would pass for a struct.
    if !text.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str::<Answer>(text).ok().map(|answer| answer.active)
}

/// Whoever writes policy chooses the secret and where it is sent. So only what is set apart for this can be one: a file below
/// `folder`, or a variable of a certain name.
async fn read(secret: &Secret, folder: Option<&Path>) -> Result<String, Unanswered> {
    let mut text = match secret {
        Secret::Env(name) if name.starts_with(SECRET_PREFIX) => std::env::var(name).map_err(|_| Unanswered::Secret)?,
        Secret::Env(_) => return Err(Unanswered::Secret),
        Secret::File(path) => {
            let folder = folder.ok_or(Unanswered::Secret)?;
            let (real_folder, real_path) =
                tokio::try_join!(tokio::fs::canonicalize(folder), tokio::fs::canonicalize(folder.join(path)))
                    .map_err(|_| Unanswered::Secret)?;
            if !real_path.starts_with(&real_folder) {
                return Err(Unanswered::Secret);
            }
            let text = tokio::task::spawn_blocking(move || regular::read(&real_path, MAX_SECRET_BYTES as u64)).await;
            text.ok().and_then(Result::ok).ok_or(Unanswered::Secret)?
        }
    };
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    if text.is_empty() || text.len() > MAX_SECRET_BYTES { Err(Unanswered::Secret) } else { Ok(text) }
}

/// `application/x-www-form-urlencoded` of one value.
fn encoded(text: &str) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |value: u8| HEX.get(usize::from(value & 15)).copied().unwrap_or('0');
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.extend(['%', digit(byte >> 4), digit(byte)]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_with_one_boolean_active_is_an_answer() {
        assert_eq!(active(br#" {"active":true,"sub":"a"}"#), Some(true));
        assert_eq!(active(br#"{"active":false}"#), Some(false));
        for wrong in [
            &br#"{"active":"true"}"#[..],
            br#"{"active":1}"#,
            br#"{"active":null}"#,
            br"{}",
            br"[true]",
            br"true",
            br"",
            br#"{"active":true,"active":false}"#,
            br#"{"active":true"#,
            br#"{"active":true} {}"#,
            b"{\"active\":true,\"sub\":\"\xff\"}",
        ] {
            assert_eq!(active(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[tokio::test]
    async fn only_what_is_set_apart_for_it_is_sent_as_a_secret() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("secrets");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("good"), "s3cret\n").unwrap();
        std::fs::write(root.path().join("seed"), "signing seed").unwrap();
        std::os::unix::fs::symlink("good", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("../seed", folder.join("away")).unwrap();
        let file = |path: &Path| Secret::File(path.to_str().unwrap().to_owned());
        for path in [Path::new("good"), Path::new("link"), &folder.join("good"), Path::new("../secrets/good")] {
            assert_eq!(read(&file(path), Some(&folder)).await.as_deref(), Ok("s3cret"), "{path:?}");
            assert_eq!(read(&file(path), None).await, Err(Unanswered::Secret));
        }
        for path in
            [Path::new("away"), Path::new("../seed"), &root.path().join("seed"), Path::new("."), Path::new("none")]
        {
            assert_eq!(read(&file(path), Some(&folder)).await, Err(Unanswered::Secret), "{path:?}");
        }
        for name in ["PATH", "HOME", "DOORWARD_SECRET_NOT_SET"] {
            assert_eq!(read(&Secret::Env(name.to_owned()), Some(&folder)).await, Err(Unanswered::Secret), "{name}");
        }
    }

    #[test]
    fn id_secret_and_token_are_form_encoded() {
        assert_eq!(encoded("a b+c/d=e:f&g%\u{e4}*-._~"), "a+b%2Bc%2Fd%3De%3Af%26g%25%C3%A4*-._%7E");
    }
}
