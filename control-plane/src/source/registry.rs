//! The kinds of source, by the scheme with which an argument names one.

use std::path::{Path, PathBuf};

use super::{PolicySource, SourceError, directory::Directory, kubernetes::Kubernetes};

/// How a source is opened from what follows its scheme on the command line.
type Open = fn(&str) -> Result<Box<dyn PolicySource>, SourceError>;

/// Sources by the scheme with which an argument names them. One without a scheme is a path.
const SCHEMES: &[(&str, Open)] = &[
    ("dir:", |rest| Ok(Box::new(Directory::watched(Path::new(rest))?))),
    ("kubernetes:", |rest| Ok(Box::new(Kubernetes::open(rest, None)?))),
];

/// The source that an argument such as `--policies` names.
///
/// # Errors
/// There is nothing of that name.
pub fn open(argument: &Path) -> Result<Box<dyn PolicySource>, SourceError> {
    match scheme(argument) {
        Some((open, rest)) => open(rest),
        None => Ok(Box::new(Directory::watched(argument).map_err(|error| mistyped(argument, error))?)),
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
            None => {
                // For its error, which names this one.
                Directory::given(vec![argument.clone()]).map_err(|error| mistyped(argument, error))?;
                paths.push(argument.clone());
            }
        }
    }
    if !paths.is_empty() {
        sources.insert(0, Box::new(Directory::given(paths)?));
    }
    Ok(sources)
}

/// An argument that begins as the name of a source would, and is none: says which there are.
fn mistyped(argument: &Path, error: SourceError) -> SourceError {
    let text = argument.to_string_lossy();
    let begins_so = text.split_once(':').is_some_and(|(kind, _)| !kind.is_empty() && !kind.contains('/'));
    if !begins_so || argument.exists() {
        return error;
    }
    let schemes = SCHEMES.iter().map(|(scheme, _)| format!("{scheme}…")).collect::<Vec<_>>().join(", ");
    SourceError::NoScheme { argument: text.into_owned(), schemes }
}

fn scheme(argument: &Path) -> Option<(Open, &str)> {
    let text = argument.to_str()?;
    SCHEMES.iter().find_map(|(scheme, open)| text.strip_prefix(scheme).map(|rest| (*open, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_is_mistyped_is_told_with_those_there_are() {
        let told = |argument: &str| {
            let path = PathBuf::from(argument);
            let all = open_all(std::slice::from_ref(&path)).err().map(|error| error.to_string()).unwrap_or_default();
            let one = open(&path).err().map(|error| error.to_string()).unwrap_or_default();
            (all, one)
        };
        let (all, one) = told("dirr:policies");
        assert!(all.contains("there is dir:…") && one == all, "{all} {one}");
        for path in ["nowhere", "./dirr:policies", "a/b:c"] {
            let (all, one) = told(path);
            assert!(!all.contains("dir:…") && all.contains(path) && one.contains("is not there"), "{all} {one}");
        }
    }
}
