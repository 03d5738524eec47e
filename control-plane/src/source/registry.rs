//! The kinds of source, by the scheme with which an argument names one.

use std::path::{Path, PathBuf};

use super::{PolicySource, SourceError, directory::Directory};

/// How a source is opened from what follows its scheme on the command line.
type Open = fn(&str) -> Result<Box<dyn PolicySource>, SourceError>;

/// Sources by the scheme with which an argument names them. One without a scheme is a path.
const SCHEMES: &[(&str, Open)] = &[("dir:", |rest| Ok(Box::new(Directory::watched(Path::new(rest))?)))];

/// The source that an argument such as `--policies` names.
///
/// # Errors
/// There is nothing of that name.
pub fn open(argument: &Path) -> Result<Box<dyn PolicySource>, SourceError> {
    match scheme(argument) {
        Some((open, rest)) => open(rest),
        None => Ok(Box::new(Directory::watched(argument)?)),
    }
}

/// The sources that the arguments of a command name: all paths together, and each other one.
///
/// # Errors
/// There is nothing of that name.
pub fn open_all(arguments: &[PathBuf]) -> Result<Vec<Box<dyn PolicySource>>, SourceError> {
    let mut sources: Vec<Box<dyn PolicySource>> = Vec::new();
    let mut paths = Vec::new();
    for argument in arguments {
        match scheme(argument) {
            Some((open, rest)) => sources.push(open(rest)?),
            None => paths.push(argument.clone()),
        }
    }
    if !paths.is_empty() {
        sources.insert(0, Box::new(Directory::given(paths)?));
    }
    Ok(sources)
}

fn scheme(argument: &Path) -> Option<(Open, &str)> {
    let text = argument.to_str()?;
    SCHEMES.iter().find_map(|(scheme, open)| text.strip_prefix(scheme).map(|rest| (*open, rest)))
}
