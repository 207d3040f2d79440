//! What the crate gives to its users, read from its sources: the types and traits that can be named from outside, and
//! which of them are futures, services, bodies and streams. The lists that tests are generated from are compared with
//! it, so that nothing that is added later is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// What stands in the public face, by its path.
#[derive(Debug, Default)]
pub(super) struct Face {
    /// Types, with the kinds of what they are: `struct`, `Future`, `Service`, `Body`, `Stream`.
    types: BTreeMap<String, BTreeSet<&'static str>>,
    traits: BTreeSet<String>,
    async_fns: BTreeSet<String>,
}

/// Names that a room lets out: the room and the name they are defined under, with the path they are known by.
type Exports = BTreeMap<(String, String), String>;

/// Where a file is in the house: its room, and the path of its module's exports.
fn place_of(file: &Path) -> (String, String) {
    let inside = file.strip_prefix(root().join("src")).unwrap_or(file);
    let parts: Vec<String> = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    let room = room_of(file);
    // A folder in a room is a module of its own only where the room says so.
    let folder = if parts.len() > 2 { format!("{room}::{}", parts[1]) } else { room.clone() };
    (room, folder)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths in a `use`, groups taken apart.
fn used(text: &str, before: &str, found: &mut Vec<String>) {
    let text = text.trim();
    if let Some((path, group)) = text.split_once('{') {
        let group = group.strip_suffix('}').unwrap_or(group);
        let (mut depth, mut part) = (0, String::new());
        for c in group.chars().chain([',']) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    used(&std::mem::take(&mut part), &format!("{before}{}", path.trim()), found);
                    continue;
                }
                _ => {}
            }
            part.push(c);
        }
    } else if !text.is_empty() {
        found.push(format!("{before}{text}"));
    }
}

fn exports_of(file: &Path, text: &str, exports: &mut Exports) {
    let (room, folder) = place_of(file);
    for (at, _) in text.match_indices("pub use ") {
        let rest = &text[at + "pub use ".len()..];
        let mut paths = Vec::new();
        used(rest.split(';').next().unwrap_or_default(), "", &mut paths);
        for path in paths {
            let name = path.rsplit("::").next().unwrap_or_default();
            let (path, name) = match name.split_once(" as ") {
                Some((before, after)) => (path.replace(&format!(" as {after}"), ""), (before, after)),
                None => (path.clone(), (name, name)),
            };
            let inside = path.strip_prefix("crate::");
            let home = inside.map_or(room.as_str(), |inside| inside.split("::").next().unwrap_or_default());
            let known_by = if folder == "lib" { name.1.to_owned() } else { format!("{folder}::{}", name.1) };
            let home = if folder == "lib" { path.split("::").next().unwrap_or_default() } else { home };
            // A name that is let out at two places is known by the shorter path, or the one of its own room.
            let key = (home.to_owned(), name.0.to_owned());
            let (own, at_root) = (known_by.starts_with(&format!("{home}::")), folder == "lib");
            let better = exports.get(&key).is_none_or(|known| at_root || own && known.contains("::"));
            if better {
                exports.insert(key, known_by);
            }
        }
    }
}

/// The beginning of an item up to its body, in one line.
fn header(lines: &[String], at: usize) -> String {
    let mut text = String::new();
    for line in &lines[at..] {
        text.push_str(line.trim());
        text.push(' ');
        let in_body = text.contains('{') || text.contains(';');
        if in_body {
            break;
        }
    }
    text.split('{').next().unwrap_or_default().trim().to_owned()
}

/// The trait and the type of `impl Trait for Type`.
fn implemented(header: &str) -> Option<(String, String)> {
    let rest = header.strip_prefix("impl")?;
    let rest = if rest.starts_with('<') { rest.split_at(closing(rest)?).1 } else { rest };
    let (one, other) = match rest.split_once(" for ") {
        Some((one, other)) => (one.trim(), other.trim()),
        None => ("", rest.trim()),
    };
    let name = |text: &str| {
        let path: String = text.chars().take_while(|c| is_word(*c) || *c == ':').collect();
        path.rsplit("::").next().unwrap_or_default().to_owned()
    };
    Some((name(one), name(other)))
}

/// Where the first `<` is closed.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut before) = (0, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
        before = c;
    }
    None
}

/// The name after a keyword, where a line declares one.
fn declared(line: &str, keyword: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("pub ")?.strip_prefix(keyword)?.strip_prefix(' ')?;
    Some(rest.chars().take_while(|c| is_word(*c)).collect())
}

const KINDS: [&str; 4] = ["Future", "Service", "Body", "Stream"];

impl Face {
    pub(super) fn of(files: &BTreeMap<PathBuf, String>) -> Self {
        let code: BTreeMap<&PathBuf, Vec<String>> = files.iter().map(|(file, text)| (file, code(text))).collect();
        let mut exports = Exports::new();
        let root: Vec<&str> =
            files.iter().filter(|(file, _)| file.ends_with("lib.rs")).flat_map(|(_, text)| text.lines()).collect();
        let is_open = |room: &str| root.is_empty() || root.contains(&&*format!("pub mod {room};"));
        for (file, lines) in &code {
            let doors = ["mod.rs", "lib.rs"].iter().any(|door| file.ends_with(door));
            if doors && (is_open(&room_of(file)) || file.ends_with("lib.rs")) {
                exports_of(file, &lines.join(" "), &mut exports);
            }
        }
        // Rooms that are one file and open.
        for (file, lines) in code.iter().filter(|(file, _)| room_of(file) == "time") {
            for name in lines.iter().flat_map(|line| declared(line, "struct")) {
                exports.insert((room_of(file), name.clone()), format!("time::{name}"));
            }
        }
        let mut face = Self::default();
        for (file, lines) in &code {
            face.read(&room_of(file), lines, &exports);
        }
        face
    }

    fn read(&mut self, room: &str, lines: &[String], exports: &Exports) {
        let path_of = |name: &str| exports.get(&(room.to_owned(), name.to_owned()));
        let mut inside: Option<(String, String)> = None;
        for (at, line) in lines.iter().enumerate() {
            for keyword in ["struct", "enum"] {
                if let Some(path) = declared(line, keyword).as_deref().and_then(path_of) {
                    self.types.entry(path.clone()).or_default().insert("struct");
                }
            }
            if let Some(path) = declared(line, "trait").as_deref().and_then(path_of) {
                self.traits.insert(path.clone());
            }
            if line.starts_with("impl") || line.starts_with("    impl") {
                inside = implemented(&header(lines, at).replace("pub ", ""));
                if let Some((of, path)) = inside.as_ref().and_then(|(of, on)| Some((of, path_of(on)?))) {
                    let kind = KINDS.iter().find(|kind| *kind == of);
                    self.types.entry(path.clone()).or_default().extend(kind);
                }
            } else if line.starts_with('}') {
                inside = None;
            }
            self.read_fn(lines, at, inside.as_ref(), &path_of);
        }
    }

    /// A function that gives a future which has no name.
    fn read_fn<'a>(
        &mut self,
        lines: &[String],
        at: usize,
        inside: Option<&(String, String)>,
        path_of: &impl Fn(&str) -> Option<&'a String>,
    ) {
        let words = lines[at].trim_start();
        let is_public = words.starts_with("pub ");
        let Some((_, name)) = words.split_once("fn ").filter(|_| !words.starts_with("pub(")) else { return };
        let gives = words.contains("async fn ") || {
            let header = header(lines, at);
            header.contains("-> impl Future")
        };
        let Some((of, on)) = inside.filter(|_| gives) else { return };
        // What a public trait asks for is public where it is implemented.
        if is_public || !of.is_empty() {
            let name: String = name.chars().take_while(|c| is_word(*c)).collect();
            self.async_fns.extend(path_of(on).map(|path| format!("{path}::{name}")));
        }
    }

    fn of_kind(&self, kind: &str) -> BTreeSet<String> {
        let is = |(path, kinds): (&String, &BTreeSet<&str>)| kinds.contains(kind).then(|| path.clone());
        self.types.iter().filter_map(is).collect()
    }

    /// All that ends when it is polled: types of futures, and functions that give one.
    pub(super) fn futures(&self) -> BTreeSet<String> {
        self.of_kind("Future").union(&self.async_fns).cloned().collect()
    }

    pub(super) fn services(&self) -> BTreeSet<String> {
        self.of_kind("Service")
    }

    /// All that is polled over and over.
    pub(super) fn flows(&self) -> BTreeSet<String> {
        self.of_kind("Body").union(&self.of_kind("Stream")).cloned().collect()
    }

    pub(super) fn types(&self) -> BTreeSet<String> {
        self.types.keys().cloned().collect()
    }

    pub(super) fn traits(&self) -> &BTreeSet<String> {
        &self.traits
    }
}

/// The paths in a section of a list, each as `"path" =>`.
fn listed(text: &str, section: &str) -> BTreeSet<String> {
    let start = format!("{section} {{");
    let lines = text.lines().skip_while(|line| line.trim() != start).skip(1);
    let inside = lines.take_while(|line| !line.starts_with("    }") && !line.starts_with('}'));
    let path = |line: &str| Some(line.trim().strip_prefix('"')?.split_once("\" =>")?.0.to_owned());
    inside.filter_map(path).collect()
}

/// What is public and not listed, and what is listed and not there.
fn compare(what: &str, there: &BTreeSet<String>, listed: &BTreeSet<String>) -> Vec<String> {
    let missing = there.difference(listed).map(|path| format!("{what} {path} is public and in no list"));
    missing.chain(listed.difference(there).map(|path| format!("{what} {path} is listed and not there"))).collect()
}

fn list(file: &str) -> String {
    fs::read_to_string(root().join("tests/it").join(file)).unwrap()
}

fn face() -> Face {
    Face::of(&sources(&root().join("src")))
}

#[test]
fn every_future_service_and_body_is_dropped_at_every_point() {
    let (face, list) = (face(), list("harness/list.rs"));
    assert!(face.futures().len() > 50 && face.services().len() > 20, "they are found where they are looked for");
    let mut wrong = compare("the future", &face.futures(), &listed(&list, "futures"));
    wrong.extend(compare("the service", &face.services(), &listed(&list, "services")));
    wrong.extend(compare("the body or stream", &face.flows(), &listed(&list, "flows")));
    assert!(wrong.is_empty(), "tests/it/harness/list.rs:\n{}", wrong.join("\n"));
}

#[test]
fn the_auto_traits_of_every_type_are_asked_for() {
    let wrong = compare("the type", &face().types(), &listed(&list("hosts/auto.rs"), "types"));
    assert!(wrong.is_empty(), "tests/it/hosts/auto.rs:\n{}", wrong.join("\n"));
}

#[test]
fn every_trait_that_users_implement_is_among_those_whose_panics_are_tried() {
    let wrong = compare("the trait", face().traits(), &listed(&list("panics/list.rs"), "traits"));
    assert!(wrong.is_empty(), "tests/it/panics/list.rs:\n{}", wrong.join("\n"));
}

// Planted: what is public is found, what is private is not, and a list that is wrong is told.

fn planted_face(text: &str) -> Face {
    let file = |name: &str| root().join("src/breaker").join(name);
    let doors =
        "mod inner;\npub use inner::{\n    Early, Late as Later,\n    Shop,\n};\npub(crate) use inner::Hidden;\n";
    Face::of(&BTreeMap::from([(file("mod.rs"), doors.to_owned()), (file("inner.rs"), text.to_owned())]))
}

#[test]
fn a_future_a_service_and_a_function_that_nobody_listed_are_found() {
    let face = planted_face(
        "pub struct Early<'a>(&'a ());\nimpl<F: Fn() -> u8> std::future::Future for Early<'_, F> {\n}\n\
         pub enum Late {}\nimpl Future for Late {}\npub struct Hidden;\nimpl Future for Hidden {}\n\
         impl<S, Req> Service<Req> for Shop<S>\nwhere\n    S: Service<Req>,\n{\n}\n\
         impl Shop {\n    pub async fn serve(&self) {}\n    async fn hide(&self) {}\n\
         \x20   pub(crate) async fn sweep() {}\n\
         \x20   pub fn later<F>(\n        &self,\n    ) -> impl Future<Output = ()>\n\
         \x20   where\n        F: Fn(),\n    {\n    }\n}\n\
         impl Discovery for Shop {\n    async fn watch(&self) {}\n}\n",
    );
    let names = |of: BTreeSet<String>| of.into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names(face.services()), "breaker::Shop");
    let futures = "breaker::Early breaker::Later breaker::Shop::later breaker::Shop::serve breaker::Shop::watch";
    assert_eq!(names(face.futures()), futures);
    assert_eq!(names(face.types()), "breaker::Early breaker::Later breaker::Shop");
    let list = "x! {\n    futures {\n        \"breaker::Early\" => early,\n        \"breaker::Gone\" => gone,\n    }\n\
                \x20   services {\n        \"breaker::Shop\" => shop,\n    }\n}\n";
    let wrong = compare("the future", &face.futures(), &listed(list, "futures")).join("\n");
    assert!(wrong.contains("the future breaker::Later is public and in no list"), "{wrong}");
    assert!(wrong.contains("the future breaker::Shop::serve is public and in no list"), "{wrong}");
    assert!(wrong.contains("the future breaker::Gone is listed and not there"), "{wrong}");
    assert!(!wrong.contains("Early") && !wrong.contains("Hidden"), "{wrong}");
    assert!(compare("the service", &face.services(), &listed(list, "services")).is_empty());
}
