//! Every bound is where its error says: the limit itself is taken, and what is one beyond it is not.

use serde_json::Value;

use super::{
    subjects::{Entry, Format, all},
    sweep::{fields, planted},
};
use crate::support::quiet;

/// What is said of a field that has this value, if it is refused for it.
fn refused(entry: &Entry, document: &Value, path: &[String], value: &str) -> Option<String> {
    let refusal = (entry.check)(&planted(document, path, value, Format::Json).text, Format::Json).err()?;
    let leaf = path.last()?;
    // Of all that is told, what is told of this field: `section.field = value: why`.
    let told = refusal.message.split("; ").find(|problem| {
        let name = problem.split(" = ").next().unwrap_or_default();
        name == leaf || name.ends_with(&format!(".{leaf}"))
    });
    told.map(str::to_owned).or_else(|| refusal.message.contains("invalid").then_some(refusal.message))
}

/// The bounds in `limit = 0: must be in 1..=1000000`.
fn bounds(told: &str) -> Option<(i128, i128)> {
    let (least, most) = told.split_once(": must be in ")?.1.split_once("..=")?;
    let most: String = most.chars().take_while(char::is_ascii_digit).collect();
    Some((least.parse().ok()?, most.parse().ok()?))
}

#[test]
fn every_limit_is_allowed_and_one_beyond_it_is_not() {
    let _quiet = quiet();
    let (mut numbers, mut times) = (0, 0);
    for entry in all() {
        for text in entry.documents {
            let document: Value = serde_json::from_str(text).expect("a document is JSON");
            let mut found = Vec::new();
            if document.is_object() {
                fields(entry, &document, &[], &mut found);
            }
            for path in found {
                let ask = |value: &str| refused(entry, &document, &path, value);
                let place = format!("{} {}", entry.name, path.join("."));
                let known = ["0", "4294967295", "18446744073709551615"].iter().find_map(|n| bounds(&ask(n)?));
                if let Some((least, most)) = known {
                    numbers += 1;
                    assert!(ask(&(least - 1).to_string()).is_some(), "{place}: {least} - 1");
                    assert!(ask(&(most + 1).to_string()).is_some(), "{place}: {most} + 1");
                    // Another setting may want less: a window of so many calls for one, but not for both ends.
                    let taken =
                        [least, most].map(|limit| ask(&limit.to_string()).is_none_or(|it| bounds(&it).is_none()));
                    assert!(taken.iter().any(|it| *it), "{place}: neither {least} nor {most}");
                }
                if ask(r#""366d""#).is_some_and(|told| told.ends_with("= 366d: must be at most 365d")) {
                    times += 1;
                    let over = ask(r#""365d1ns""#).unwrap_or_default();
                    assert!(over.contains("at most 365d"), "{place}: {over}");
                    let limit = ask(r#""365d""#).unwrap_or_default();
                    assert!(!limit.contains("at most 365d"), "{place}: {limit}");
                }
            }
        }
    }
    println!("{numbers} numbers and {times} durations have their bounds where they say");
    assert!(numbers > 100 && times > 50, "{numbers} {times}");
}
