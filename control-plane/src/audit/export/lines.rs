//! JSON lines, on standard output or at the end of a file.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use doorward_proto::v1::StoredRecord;

use super::exporter::{ExportError, Exporter};
use crate::audit::json;

/// How each line begins.
const START: &[u8] = b"{\"cursor\":";
/// A line is shorter than this: a record has 64 KiB, and JSON makes at most six bytes of one.
const LINE_BYTES: u64 = 1 << 20;

/// Standard output. What was flushed into a pipe counts as delivered: what its reader loses, it has lost.
pub(super) fn stdout(_: &str) -> Result<Box<dyn Exporter>, ExportError> {
    Ok(Box::new(Lines { target: "standard output".to_owned(), out: Out::Stdout }))
}

/// The end of a file, which only its owner may read if it is new. Lines are on the disk before they count as delivered.
pub(super) fn file(path: &str) -> Result<Box<dyn Exporter>, ExportError> {
    let failed = |source| ExportError::Write { target: path.to_owned(), source };
    let opened = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path);
    let mut file = opened.map_err(failed)?;
    // Its lines and another one's would be mixed, and one would take away what the other has just begun.
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(ExportError::Taken { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // If the file is new: it must be found again.
    let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)?;
    if !repair(&mut file).map_err(failed)? {
        return Err(ExportError::ForeignFile { path: path.to_owned() });
    }
    Ok(Box::new(Lines { target: path.to_owned(), out: Out::File(file) }))
}

struct Lines {
    target: String,
    out: Out,
}

enum Out {
    Stdout,
    File(File),
}

#[tonic::async_trait]
impl Exporter for Lines {
    async fn deliver(&mut self, records: &[StoredRecord]) -> Result<(), ExportError> {
        let lines: String = records.iter().map(|stored| format!("{}\n", json::stored(stored))).collect();
        let written = match &mut self.out {
            // A thread of its own: who does not read its pipe must not keep signals from being heard.
            Out::Stdout => {
                let writing = tokio::task::spawn_blocking(move || {
                    let mut out = io::stdout().lock();
                    out.write_all(lines.as_bytes()).and_then(|()| out.flush())
                });
                writing.await.map_err(io::Error::other).flatten()
            }
            Out::File(file) => file.write_all(lines.as_bytes()).and_then(|()| file.sync_data()),
        };
        written.map_err(|source| ExportError::Write { target: self.target.clone(), source })
    }
}

/// Takes away the part of a line that an export left when it was killed: its record was not delivered, and comes again. False:
/// the file ends with something else.
fn repair(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let looked_at = length.min(LINE_BYTES);
    file.seek(SeekFrom::End(-i64::try_from(looked_at).unwrap_or(0)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let begin = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if begin == 0 && looked_at < length {
        return Ok(false);
    }
    let part = end.get(begin..).unwrap_or_default();
    let is_ours = part.iter().zip(START).all(|(found, expected)| found == expected);
    if is_ours && !part.is_empty() {
        file.set_len(length.saturating_sub(part.len() as u64))?;
    }
    Ok(is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_exports_do_not_write_to_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let path = path.to_str().unwrap();
        let first = file(path).unwrap();
        assert!(matches!(file(path), Err(ExportError::Taken { .. })));
        drop(first);
        assert!(file(path).is_ok());
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_is_taken_away_and_a_file_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        let path = path.to_str().unwrap();
        let record = |cursor| StoredRecord { cursor, ..StoredRecord::default() };
        file(path).unwrap().deliver(&[record(1), record(2)]).await.unwrap();
        let whole = std::fs::read_to_string(path).unwrap();
        assert_eq!(whole.lines().count(), 2);
        for cut in [1, 5, 20, whole.len() / 2 - 1] {
            std::fs::write(path, &whole[..whole.len() - cut]).unwrap();
            file(path).unwrap().deliver(&[record(2)]).await.unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), whole, "{cut}");
        }
        for other in ["no line", "one\nno line", "{\"cursors\":1", &"x".repeat(2 << 20)] {
            std::fs::write(path, other).unwrap();
            assert!(matches!(file(path), Err(ExportError::ForeignFile { .. })));
            assert_eq!(std::fs::read_to_string(path).unwrap(), other);
        }
        assert!(matches!(file("/no/such/directory/x"), Err(ExportError::Write { .. })));
    }
}
