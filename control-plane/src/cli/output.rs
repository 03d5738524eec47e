//! What goes to the terminal: colour, times, and text that others chose.

use std::{
    fmt::Write as _,
    io::IsTerminal as _,
    sync::atomic::{AtomicBool, Ordering},
};

use anstyle::{AnsiColor, Style};

pub use crate::text::{hex, time};

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

static COLOR: AtomicBool = AtomicBool::new(false);

/// Decides once for the process whether standard output is coloured.
pub fn choose(color: Color) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    COLOR.store(
        match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !set("NO_COLOR") && std::io::stdout().is_terminal(),
        },
        Ordering::Relaxed,
    );
}

/// Good.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Bad.
pub const RED: Style = AnsiColor::Red.on_default();
/// Worth a look.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Of less interest.
pub const DIM: Style = Style::new().dimmed();
/// A heading.
pub const BOLD: Style = Style::new().bold();

/// The text in this style, if colour is on.
pub fn paint(style: Style, text: &str) -> String {
    if COLOR.load(Ordering::Relaxed) { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

/// Text that somebody else chose, safe to print: control and direction-changing characters are written as escapes, so
/// that a request cannot write on the reader's terminal.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hidden {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// A span in words a person reads at a glance.
pub fn span(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..120_000_000 => format!("{:.1} s", micros as f64 / 1e6),
        120_000_000..7_200_000_000 => format!("{} min", micros / 60_000_000),
        _ => format!("{} h", micros / 3_600_000_000),
    }
}

/// True where the reader of our output went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        kind.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\u{202e}c\nd"), "a\\u{1b}[31mb\\u{202e}c\\u{a}d");
        assert_eq!(clean("Zürich 東京"), "Zürich 東京");
    }
}
