//! The documents in the text of a file or object, each on its own: one that does not parse must not take the others with it.

/// One YAML document of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its first line in the file, from 1.
    pub line: u32,
    /// Its text, without the marker before it.
    pub text: String,
}

impl Chunk {
    /// The text after as many empty lines as precede it in its file, so that line numbers in diagnostics are the file's.
    pub fn in_place(&self) -> String {
        in_place(self.line, &self.text)
    }

    /// `kind` and `metadata.name`, read line by line: also of a document that does not parse.
    pub fn identity(&self) -> Option<(String, String)> {
        let kind = self.kind()?;
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with("metadata:"));
        let first = lines.next()?;
        if first.contains('{') {
            return value(first, "name:").map(|name| (kind, name));
        }
        let name = lines
            .take_while(|line| line.is_empty() || line.starts_with([' ', '#']))
            .find(|line| line.trim_start().starts_with("name:"));
        name.and_then(|line| value(line, "name:")).map(|name| (kind, name))
    }

    /// `kind`, read line by line.
    pub fn kind(&self) -> Option<String> {
        self.text.lines().find(|line| line.starts_with("kind:")).and_then(|line| value(line, "kind:"))
    }
}

/// The scalar after this key on a line.
fn value(line: &str, key: &str) -> Option<String> {
    let rest = line.split_once(key)?.1.trim_start();
    let rest = rest.split([',', '}', '#']).next()?.trim().trim_matches(['"', '\'']);
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// See [`Chunk::in_place`].
pub fn in_place(line: u32, text: &str) -> String {
    "\n".repeat(line.saturating_sub(1) as usize) + text
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// The documents of a file. A marker in the first column, `---` or `...`, always ends a document (YAML 1.2, 9.1.2), whatever it
/// stands in. A byte order mark is none of the text.
///
/// A document without `apiVersion` takes over that of the one before it in its file; since each is kept on its own, the
/// line is put in the place of its marker.
pub fn split(text: &str) -> Vec<Chunk> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = vec![Chunk { line: 1, text: String::new() }];
    for (line, number) in text.split_inclusive('\n').zip(1_u32..) {
        if is_marker(line, "---") {
            let rest = line.get(3..).unwrap_or_default().trim();
            // `--- {kind: …}`: what follows the marker belongs to the document, unless it is a comment.
            let text = if rest.is_empty() || rest.starts_with('#') { "\n".to_owned() } else { format!("   {rest}\n") };
            chunks.push(Chunk { line: number, text });
        } else if is_marker(line, "...") {
            chunks.push(Chunk { line: number, text: "\n".to_owned() });
        } else if let Some(last) = chunks.last_mut() {
            last.text.push_str(line);
        }
    }
    let blank =
        |chunk: &Chunk| chunk.text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    chunks.retain(|chunk| !blank(chunk));
    let mut version: Option<String> = None;
    for chunk in &mut chunks {
        let own = chunk.text.lines().find(|line| line.starts_with("apiVersion:")).map(str::to_owned);
        if own.is_some() {
            version = own;
        } else if let (Some(version), Some(rest)) = (&version, chunk.text.strip_prefix('\n')) {
            chunk.text = format!("{version}\n{rest}");
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_in_the_first_column_ends_a_document_and_lines_stay_true() {
        let text = "# head\n---\nkind: A\ntext: |\n  ---\n--- # second\nkind: B\n---\n\n";
        let chunks = split(text);
        assert_eq!(chunks.len(), 2);
        assert!(chunks[0].text.contains("  ---\n"));
        for chunk in &chunks {
            let kind = chunk.text.lines().find(|line| line.starts_with("kind")).unwrap();
            let found = chunk.in_place().lines().position(|line| line == kind).unwrap();
            assert_eq!(text.lines().nth(found), Some(kind));
        }
        let inherited = split("apiVersion: v1\nkind: A\n---\nkind: B\n");
        assert_eq!(inherited[1], Chunk { line: 3, text: "apiVersion: v1\nkind: B\n".into() });
        assert!(split("").is_empty() && split("---\n---\n").is_empty());
    }

    #[test]
    fn the_end_marker_ends_a_document_as_it_does_for_the_reader_of_yaml() {
        let text = "kind: A\n...\nkind: B\n... # end\n---\nkind: C\n...\n";
        let lines: Vec<_> = split(text).iter().map(|chunk| (chunk.line, chunk.text.trim().to_owned())).collect();
        assert_eq!(lines, [(1, "kind: A".into()), (2, "kind: B".into()), (5, "kind: C".into())]);
        assert_eq!(split("\u{feff}kind: A\n")[0].text, "kind: A\n");
    }

    #[test]
    fn the_identity_of_a_document_that_does_not_parse_is_still_found() {
        let identity = |text: &str| split(text)[0].identity();
        let found = Some(("AccessRole".to_owned(), "ai".to_owned()));
        assert_eq!(identity("kind: AccessRole\nmetadata: { name: ai }\nspec: [\n"), found);
        assert_eq!(identity("metadata:\n  labels: {}\n  name: \"ai\" # x\nkind: AccessRole\nspec: }\n"), found);
        assert_eq!(identity("kind: AccessRole\nspec:\n  name: ai\n"), None);
        assert_eq!(identity("metadata: { name: ai }\n"), None);
    }
}
