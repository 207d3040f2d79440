//! Every odd value in every field of everything that is read from a file. The fields are found by asking: an unknown
//! one is refused with the names of those that are known.

use std::{collections::BTreeSet, fmt::Write as _, fs, ops::Range, path::Path};

use serde_json::{Map, Value};

use super::subjects::{Entry, Format, Refusal, all};
use crate::support::{panics_with, quiet};

/// Odd values: as JSON has them, and as TOML has them.
const ODD: &[(Option<&str>, Option<&str>)] = &[
    (Some("0"), Some("0")),
    (Some("-1"), Some("-1")),
    (Some("1"), Some("1")),
    (Some("64"), Some("64")),
    (Some("0.5"), Some("0.5")),
    (Some("-0.0"), Some("-0.0")),
    (Some("5e-324"), Some("5e-324")),
    (Some("1e308"), Some("1e308")),
    (Some("NaN"), Some("nan")),
    (Some("1e999"), Some("inf")),
    (None, Some("-inf")),
    (Some("4294967296"), Some("4294967296")),
    (Some("9223372036854775808"), Some("9223372036854775808")),
    (Some("18446744073709551615"), Some("18446744073709551615")),
    (Some("18446744073709551616"), Some("18446744073709551616")),
    (Some("true"), Some("true")),
    (Some("null"), None),
    (Some("[]"), Some("[]")),
    (Some("[0]"), Some("[0]")),
    (Some("{}"), Some("{}")),
    (Some(r#""""#), Some(r#""""#)),
    (Some(r#""-5s""#), Some(r#""-5s""#)),
    (Some(r#""0s""#), Some(r#""0s""#)),
    (Some(r#""1ns""#), Some(r#""1ns""#)),
    (Some(r#""1ms""#), Some(r#""1ms""#)),
    (Some(r#""365d""#), Some(r#""365d""#)),
    (Some(r#""365d1ns""#), Some(r#""365d1ns""#)),
    (Some(r#""10""#), Some(r#""10""#)),
    (Some(r#""5 fortnight""#), Some(r#""5 fortnight""#)),
    (Some(r#""99999999999999999y""#), Some(r#""99999999999999999y""#)),
    (Some(r#""18446744073709551615ns""#), Some(r#""18446744073709551615ns""#)),
    (Some(r#""NaN""#), Some(r#""NaN""#)),
    (Some(r#""off""#), Some(r#""off""#)),
    (Some(r#""</script>""#), Some(r#""</script>""#)),
    (Some(r#""a\u202eb""#), Some(r#""a\u202eb""#)),
    (Some(r#""a\u0000\nb""#), Some(r#""a\u0000\nb""#)),
    (Some(r#""\"""#), Some(r#""\"""#)),
    (Some("\"\u{1f980}\""), Some("\"\u{1f980}\"")),
];

/// Stands in a document for the odd value.
const HERE: &str = "@here@";

/// A document with a value in one place, and where in the text that is.
pub(super) struct Planted {
    pub(super) text: String,
    at: Range<usize>,
}

pub(super) fn planted(document: &Value, path: &[String], value: &str, format: Format) -> Planted {
    let mut document = document.clone();
    let (last, sections) = path.split_last().expect("a field has a name");
    let mut section = &mut document;
    for name in sections {
        section = section.get_mut(name).expect("the section is there");
    }
    section.as_object_mut().expect("a section").insert(last.clone(), HERE.into());
    let mut text = String::new();
    match format {
        Format::Json => text = document.to_string(),
        Format::Toml => toml_table(document.as_object().expect("a document"), &mut text),
    }
    let quoted = format!("\"{HERE}\"");
    let start = text.find(&quoted).expect("the value is there");
    Planted { text: text.replace(&quoted, value), at: start..start + value.len() }
}

/// One field a line; sections inside are inline tables.
fn toml_table(table: &Map<String, Value>, text: &mut String) {
    for (name, value) in table {
        let _ = writeln!(text, "{} = {}", Value::from(name.as_str()), toml_value(value));
    }
}

fn toml_value(value: &Value) -> String {
    let fields = |(name, value): (&String, &Value)| format!("{} = {}", Value::from(name.as_str()), toml_value(value));
    match value {
        Value::Object(table) => format!("{{ {} }}", table.iter().map(fields).collect::<Vec<_>>().join(", ")),
        Value::Array(values) => format!("[{}]", values.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// The names of the fields of a section, from the error that an unknown one gets.
fn known_fields(entry: &Entry, document: &Value, section: &[String]) -> Option<Vec<String>> {
    let unknown = [section, &["!".to_owned()]].concat();
    let refusal = (entry.check)(&planted(document, &unknown, "0", Format::Json).text, Format::Json).err()?;
    let (_, names) = refusal.message.split_once("unknown field `!`, expected ")?;
    Some(names.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// The paths of all fields below a section that the document has; whatever is a section must be in it.
pub(super) fn fields(entry: &Entry, document: &Value, section: &[String], found: &mut Vec<Vec<String>>) {
    let here = section.iter().try_fold(document, |at, name| at.get(name));
    let known = known_fields(entry, document, section);
    // A map by key has no fields of its own.
    let by_key = || here.and_then(Value::as_object).map(|map| map.keys().cloned().collect());
    for name in known.or_else(by_key).unwrap_or_default() {
        let path = [section, &[name]].concat();
        if here.and_then(|at| at.get(&path[section.len()])).is_some_and(Value::is_object) {
            fields(entry, document, &path, found);
        }
        found.push(path);
    }
}

/// The error names the field, or it points at the value.
fn is_named(refusal: &Refusal, path: &[String], planted: &Planted) -> bool {
    let leaf = path.last().expect("a field has a name");
    let words = refusal.message.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let points = refusal.place.as_ref().is_some_and(|place| {
        place.start + 1 >= planted.at.start && place.start <= planted.at.end + 1 && place.end <= planted.at.end + 1
    });
    // What has a name and nothing else that is one says whose name it is.
    let kinds: &[&str] = if leaf == "name" { &["capability", "parameter", "service"] } else { &[] };
    points || words.into_iter().any(|word| word == leaf || kinds.contains(&word))
}

type Read = fn(&str, Format) -> Result<(), Refusal>;

/// Reads one text: what it says is wrong with the behaviour, if anything.
fn try_one(
    (name, read): (&str, Read),
    path: &[String],
    planted: &Planted,
    format: Format,
    accepted: &mut usize,
) -> Option<String> {
    let place = || format!("{} {}: {}", name, path.join("."), planted.text);
    match panics_with(|| read(&planted.text, format)) {
        Err(panic) => Some(format!("{} panics: {panic}", place())),
        Ok(Err(refusal)) if !is_named(&refusal, path, planted) => Some(format!("{} says {refusal:?}", place())),
        Ok(Err(_)) => None,
        Ok(Ok(())) => {
            *accepted += 1;
            None
        }
    }
}

#[test]
fn every_odd_value_in_every_field_is_refused_by_name_or_can_be_used() {
    let _quiet = quiet();
    let (mut fields_seen, mut cases, mut accepted, mut faults) = (0, 0, 0, Vec::new());
    for entry in all() {
        for text in entry.documents {
            let document: Value = serde_json::from_str(text).expect("a document is JSON");
            if !document.is_object() {
                continue;
            }
            let mut found = Vec::new();
            fields(entry, &document, &[], &mut found);
            assert!(!found.is_empty(), "{}: no field found", entry.name);
            fields_seen += found.len();
            for path in found {
                for (json, toml) in ODD {
                    for (value, format) in [(json, Format::Json), (toml, Format::Toml)] {
                        let Some(value) = value else { continue };
                        cases += 1;
                        let planted = planted(&document, &path, value, format);
                        // What both formats read as the same is used once.
                        let used = format == Format::Json || json.as_ref() != Some(value);
                        let read = if used { entry.read } else { entry.check };
                        faults.extend(try_one((entry.name, read), &path, &planted, format, &mut accepted));
                    }
                }
            }
        }
    }
    println!("{cases} documents, {fields_seen} fields, {accepted} accepted, {} faults", faults.len());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults[..faults.len().min(40)].join("\n"));
    assert!(cases > 20_000 && accepted > 1_000, "the sweep has found the fields: {cases}, {accepted}");
}

#[test]
fn every_document_is_right_and_has_every_section() {
    for entry in all() {
        for text in entry.documents {
            let read = (entry.read)(text, Format::Json);
            assert!(read.is_ok(), "{}: {text}: {read:?}", entry.name);
        }
    }
    for entry in all() {
        let documents: Vec<Value> =
            entry.documents.iter().map(|text| serde_json::from_str(text).expect("a document is JSON")).collect();
        let (mut possible, mut sections) = (BTreeSet::new(), BTreeSet::new());
        for document in documents.iter().filter(|document| document.is_object()) {
            let mut found = Vec::new();
            fields(entry, document, &[], &mut found);
            for path in found {
                let there = path.iter().try_fold(document, |at, name| at.get(name));
                if there.is_some_and(Value::is_object) {
                    sections.insert(path);
                } else if is_section(entry, document, &path) {
                    possible.insert(path);
                }
            }
        }
        let missing: Vec<_> = possible.difference(&sections).collect();
        assert!(missing.is_empty(), "{}: no document has the sections {missing:?}", entry.name);
    }
}

/// Whether a field that the document does not have would be a section.
fn is_section(entry: &Entry, document: &Value, path: &[String]) -> bool {
    let text = planted(document, path, r#"{"!": 0}"#, Format::Json).text;
    (entry.check)(&text, Format::Json).is_err_and(|refusal| refusal.message.contains("unknown field `!`"))
}

#[test]
fn everything_that_can_be_read_from_a_file_is_swept() {
    let mut readable = BTreeSet::new();
    for (room, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "") {
        readable.extend(readable_types(&text).into_iter().map(|name| format!("{room}{name}")));
    }
    let known: BTreeSet<String> = all().map(|entry| entry.name.to_owned()).collect();
    // Without the feature the room is not there.
    let there = |name: &&String| cfg!(feature = "http") || !name.starts_with("http::");
    let missing: Vec<_> = readable.difference(&known).filter(there).collect();
    assert!(missing.is_empty(), "can be read, and is in no sweep: {missing:?}");
    assert!(readable.len() > 25, "the types are found: {readable:?}");
}

/// Every source with the public path of its room.
fn sources(folder: &Path, room: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the sources can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(sources(&path, &format!("{room}{name}::")));
        } else {
            // At the root a file is a room; `Name` is exported at the root, as it stands in no folder.
            let place = if room.is_empty() && name != "name" { format!("{name}::") } else { room.to_owned() };
            found.push((place, fs::read_to_string(&path).expect("a source can be read")));
        }
    }
    found
}

/// The public structs that `Deserialize` is derived for.
fn readable_types(text: &str) -> Vec<String> {
    let mut lines = text.lines().map(str::trim);
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("#[derive(") && line.contains("Deserialize") {
            let item = lines
                .by_ref()
                .find(|line| line.starts_with("pub ") || line.starts_with("struct ") || line.starts_with("enum "));
            let name = item.and_then(|item| item.strip_prefix("pub struct "));
            found.extend(name.map(|name| name.chars().take_while(|c| c.is_alphanumeric()).collect::<String>()));
        } else if let Some(rest) = line.strip_prefix("impl<'de> Deserialize<'de> for ") {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if text.contains(&format!("pub struct {name}")) {
                found.push(name);
            }
        }
    }
    found
}
