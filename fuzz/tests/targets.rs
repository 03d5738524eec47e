//! Runs every target for a bounded time; see ../README.md.

use arbtest::arbtest;
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

/// Milliseconds that each target runs, if ARBTEST_BUDGET_MS does not say.
const BUDGET: u64 = 8_000;
/// Random bytes that an input has: enough for every choice that a target makes.
const BYTES: std::ops::RangeInclusive<u32> = 16..=200;

/// Runs a target on random inputs until its time is over. One that fails is printed and kept as hexadecimal text.
fn fuzz(name: &str, target: fn(&[u8])) {
    let test = arbtest(|random| {
        let bytes = random.bytes(random.len())?;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.hex"));
            let kept = match fs::write(&file, &hex) {
                Ok(()) => format!("kept in {}", file.display()),
                Err(error) => format!("not kept: {error}"),
            };
            eprintln!("{name} fails on {hex}; {kept}");
            resume_unwind(panic);
        }
        Ok(())
    });
    let test = test.size_min(*BYTES.start()).size_max(*BYTES.end());
    if env::var_os("ARBTEST_BUDGET_MS").is_none() { test.budget_ms(BUDGET).run() } else { test.run() }
}

macro_rules! targets {
    ($($name:ident => $target:path),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                // The inputs that failed once come first.
                for hex in include_str!("../seeds/failures.txt").lines() {
                    if let Some(hex) = hex.strip_prefix(concat!(stringify!($name), " ")) {
                        $target(&unhex(hex));
                    }
                }
                fuzz(stringify!($name), $target);
            }
        )+
    };
}

targets! {
    token_tampered => doorward_fuzz::token::tampered,
    token_claims => doorward_fuzz::token::claims,
    predicate_text => doorward_fuzz::predicate::text,
    request_datasette => doorward_fuzz::request::datasette,
    request_dreamfactory => doorward_fuzz::request::dreamfactory,
    request_http => doorward_fuzz::request::http,
    transform_json => doorward_fuzz::transform::json,
    bundle_bytes => doorward_fuzz::bundle::bytes,
    bundle_documents => doorward_fuzz::bundle::documents,
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| u8::try_from(c.to_digit(16).expect("hexadecimal")).unwrap()).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}
