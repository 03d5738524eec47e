//! Since which epoch each document is in force.

use std::collections::BTreeMap;

use doorward_proto::v1::DocumentStatus;

use crate::policy_store::GoodDocuments;

/// Epochs by `Kind/name`. After a restart, what was in force counts from the policy that was found.
#[derive(Debug, Default)]
pub struct Since(BTreeMap<String, u64>);

impl Since {
    /// These documents are in force with this epoch. A document that says what it said keeps its own.
    pub fn follow(&mut self, documents: &[DocumentStatus], before: &GoodDocuments, now: &GoodDocuments, epoch: u64) {
        let same = |key: &str| match (before.get(key), now.get(key)) {
            (Some(before), Some(now)) => before.text == now.text,
            _ => false,
        };
        let in_force = documents.iter().filter(|document| document.accepted || document.last_good).map(key);
        let since = |key: String| {
            let epoch = self.0.get(&key).copied().filter(|_| same(&key)).unwrap_or(epoch);
            (key, epoch)
        };
        self.0 = in_force.map(since).collect();
    }

    /// Says it in the status of each document.
    pub fn tell(&self, documents: &mut [DocumentStatus]) {
        for document in documents {
            document.epoch = self.0.get(&key(document)).copied().unwrap_or(0);
        }
    }
}

fn key(document: &DocumentStatus) -> String {
    format!("{}/{}", document.kind, document.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy_store::GoodDocument;

    #[test]
    fn a_document_is_in_force_since_the_policy_in_which_it_changed_last() {
        let status = |name: &str, in_force| DocumentStatus {
            kind: "AccessRole".into(),
            name: name.into(),
            accepted: in_force,
            ..Default::default()
        };
        let good = |texts: &[(&str, &str)]| -> GoodDocuments {
            let one = |(name, text): &(&str, &str)| {
                let good = GoodDocument { file: String::new(), line: 1, text: (*text).to_owned(), generation: 0 };
                (format!("AccessRole/{name}"), good)
            };
            texts.iter().map(one).collect()
        };
        let mut since = Since::default();
        let mut told = |documents: &[(&str, bool)], before: &[(&str, &str)], now: &[(&str, &str)], epoch| {
            let mut documents: Vec<DocumentStatus> =
                documents.iter().map(|(name, in_force)| status(name, *in_force)).collect();
            since.follow(&documents, &good(before), &good(now), epoch);
            since.tell(&mut documents);
            documents.iter().map(|document| document.epoch).collect::<Vec<_>>()
        };
        // A restart: what is stored as good is in force with the policy that was found.
        assert_eq!(told(&[("a", true), ("b", true)], &[("a", "1"), ("b", "1")], &[("a", "1"), ("b", "1")], 7), [7, 7]);
        assert_eq!(told(&[("a", true), ("b", true)], &[("a", "1"), ("b", "1")], &[("a", "1"), ("b", "2")], 8), [7, 8]);
        // Left out, it is not in force, although its last good version is kept for later.
        assert_eq!(told(&[("a", true), ("b", false)], &[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "2")], 9), [7, 0]);
        assert_eq!(
            told(&[("a", true), ("b", true)], &[("a", "1"), ("b", "2")], &[("a", "1"), ("b", "2")], 10),
            [7, 10]
        );
    }
}
