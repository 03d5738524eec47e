//! From a policy's text to what decides, in one call. What is wrong with the text is said in the words that its author
//! would get, with the text.

use doorward_policy::bundle::Tables;
use doorward_policy_compiler::{
    compile::{Compiled, KeyLocation, KeySource, NoKeys, compile},
    document::{Diagnostic, Document, parse_file},
};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// The file that a text is said to come from.
pub const FILE: &str = "policy.yaml";

/// Key sets, as JSON, by the name of the provider; `None` where there is none.
pub struct Keys<F>(pub F);

impl<F: Fn(&str) -> Option<String>> KeySource for Keys<F> {
    fn jwks(&self, provider: &str, _: KeyLocation<'_>) -> Option<String> {
        (self.0)(provider)
    }
}

/// The documents of a text in which nothing is wrong, not even a little.
#[track_caller]
pub fn documents(text: &str) -> Vec<Document> {
    let parsed = parse_file(FILE, text);
    assert!(parsed.diagnostics.is_empty(), "{}\n{}", said(&parsed.diagnostics), numbered(text));
    parsed.documents
}

/// What comes of documents that have no error; warnings are allowed.
#[track_caller]
pub fn compiled(documents: &[Document], keys: &dyn KeySource) -> Compiled {
    let compiled = compile(documents, keys, "default");
    let errors: Vec<_> = compiled.diagnostics.iter().filter(|found| found.is_error()).collect();
    assert!(errors.is_empty(), "{}", said(errors));
    compiled
}

/// The tables of a policy, of epoch 1.
#[track_caller]
pub fn indexed(compiled: &Compiled) -> Tables {
    Tables::build(&compiled.bundle, compiled.digest, 1)
        .unwrap_or_else(|error| panic!("what was compiled cannot be put in force: {error:?}"))
}

/// The tables of a text that needs no keys but those inside it.
#[track_caller]
pub fn tables(text: &str) -> Tables {
    let documents = documents(text);
    let compiled = compile(&documents, &NoKeys, "default");
    let errors: Vec<_> = compiled.diagnostics.iter().filter(|found| found.is_error()).collect();
    assert!(errors.is_empty(), "{}\n{}", said(errors), numbered(text));
    indexed(&compiled)
}

/// The document of an API key, to be put after others. `more` goes on in its `spec`, after a comma.
#[must_use]
pub fn access_key(name: &str, key: &str, role: &str, more: &str) -> String {
    let hash = key_hash(key);
    format!("---\nkind: AccessKey\nmetadata: {{ name: {name} }}\nspec: {{ hash: \"{hash}\", role: {role}{more} }}\n")
}

/// The `hash` of an `AccessKey` for this key.
#[must_use]
pub fn key_hash(key: &str) -> String {
    Sha256::digest(key).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn said<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) -> String {
    diagnostics.into_iter().map(|found| format!("{found}\n")).collect()
}

fn numbered(text: &str) -> String {
    text.lines().enumerate().map(|(at, line)| format!("{:>4} {line}\n", at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str =
        "apiVersion: doorward.dev/v1alpha1\nkind: AccessRole\nmetadata: { name: app-a }\nspec: { active: false }\n";

    #[test]
    fn a_policy_and_its_keys_come_from_text_alone() {
        let tables = tables(&(ROLE.to_owned() + &access_key("tool", "secret", "app-a", ", agent: bot")));
        assert_eq!(tables.epoch(), 1);
        assert_eq!(key_hash(""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    #[should_panic(expected = "unknown field \"grantz\"")]
    fn a_mistake_of_form_is_told_in_the_authors_words() {
        let _ = documents(&ROLE.replace("active: false", "grantz: []"));
    }

    #[test]
    #[should_panic(expected = "there is no DataService \"db\"")]
    fn a_mistake_across_documents_is_told_in_the_authors_words() {
        let _ = tables(&ROLE.replace("active: false", "grants: [{ service: db, components: [a], verbs: [GET] }]"));
    }
}
