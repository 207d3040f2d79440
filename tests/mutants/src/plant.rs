//! All changes at once, each behind a question.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    fs,
    ops::Range,
    path::Path,
    process::Command,
};

use serde_json::Value;
use syn::{
    ExprBinary, ExprConst, ExprMatch, ExprStruct, ExprUnary, ImplItemConst, ImplItemFn, ItemConst, ItemFn, ItemMod,
    ItemStatic, Type, spanned::Spanned, visit::Visit,
};

use crate::{Mutant, Place};

/// In which lines changes stand.
type Lines = Vec<(usize, Range<usize>)>;

/// What the crate is given: which change is on, and, when asked, a record of those that were come by.
const SWITCH: &str = r#"
/// Whether this change is on.
#[doc(hidden)]
pub fn mutant(id: u32) -> bool {
    use std::{
        fs::File,
        io::Write,
        sync::{LazyLock, atomic::{AtomicBool, Ordering::Relaxed}},
    };
    static ON: LazyLock<u32> =
        LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|id| id.parse().ok()).unwrap_or(u32::MAX));
    static FILE: LazyLock<Option<File>> =
        LazyLock::new(|| Some(File::create(std::env::var_os("MUTANTS_SEEN")?).expect("a file to write to")));
    static SEEN: [AtomicBool; 1 << 15] = [const { AtomicBool::new(false) }; 1 << 15];
    if let (Some(mut file), false) = (FILE.as_ref(), SEEN[id as usize].load(Relaxed)) {
        if !SEEN[id as usize].swap(true, Relaxed) {
            let _ = file.write_all(&id.to_le_bytes());
        }
    }
    id == *ON
}
"#;

/// An expression that has others to take its place.
#[derive(Default)]
struct Node {
    others: Vec<(usize, String)>,
}

/// Puts into the tree what can be compiled, and gives the numbers of it.
pub fn plant(tree: &Path, mutants: &[Mutant]) -> Result<BTreeSet<usize>, Box<dyn Error>> {
    let mut files: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (id, mutant) in mutants.iter().enumerate() {
        files.entry(&mutant.file).or_default().push(id);
    }
    let mut sources: BTreeMap<&str, String> = files
        .keys()
        .map(|&file| Ok((file, fs::read_to_string(tree.join(file))?)))
        .collect::<Result<_, std::io::Error>>()?;
    let lib = tree.join("src/lib.rs");
    fs::write(&lib, fs::read_to_string(&lib)? + SWITCH)?;

    loosen(tree, &mut sources)?;
    let mut planted: BTreeSet<usize> = (0..mutants.len()).collect();
    loop {
        let mut lines: BTreeMap<&str, Lines> = BTreeMap::new();
        for (&file, ids) in &files {
            let here: Vec<usize> = ids.iter().copied().filter(|id| planted.contains(id)).collect();
            let (text, there) = rewrite(&sources[file], mutants, &here)?;
            for id in here {
                if !there.iter().any(|(other, _)| *other == id) {
                    planted.remove(&id);
                }
            }
            fs::write(tree.join(file), text)?;
            lines.insert(file, there);
        }
        let wrong = refused(tree, &lines)?;
        if wrong.is_empty() {
            return Ok(planted);
        }
        eprintln!("{} changes can't be compiled", wrong.len());
        planted.retain(|id| !wrong.contains(id));
    }
}

/// Functions that need not be constant are not: nothing can be asked in those that are. Places stay the same.
fn loosen(tree: &Path, sources: &mut BTreeMap<&str, String>) -> Result<(), Box<dyn Error>> {
    let mut needed = BTreeSet::new();
    let originals = sources.clone();
    loop {
        for (file, original) in &originals {
            let lines = original.split_inclusive('\n').map(|line| match line.split_once("const fn ") {
                Some((before, after)) if !needed.contains(name(after)) => format!("{before}      fn {after}"),
                _ => line.to_owned(),
            });
            let text: String = lines.collect();
            fs::write(tree.join(file), &text)?;
            sources.insert(file, text);
        }
        let (messages, stderr) = check(tree)?;
        let before = needed.len();
        let told = messages.iter().filter_map(|message| message["message"].as_str());
        needed.extend(told.filter_map(|told| Some(called(told.split('`').nth(1)?))));
        match (messages.is_empty(), needed.len() == before) {
            (true, _) => return Ok(()),
            (_, true) => return Err(stderr.into()),
            _ => {}
        }
    }
}

/// The name of the function in a path with or without types.
fn called(path: &str) -> String {
    let mut depth = 0;
    let plain = path.chars().filter(|&c| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0 && c != '>'
    });
    let plain: String = plain.collect();
    plain.split("::").filter(|part| !part.is_empty()).last().unwrap_or_default().to_owned()
}

fn name(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// A file with its changes, and in which lines each of them stands.
fn rewrite(source: &str, mutants: &[Mutant], ids: &[usize]) -> Result<(String, Lines), Box<dyn Error>> {
    let text = Text::new(source);
    let mut seen = Expressions { text: &text, found: Vec::new(), constant: Vec::new() };
    seen.visit_file(&syn::parse_file(source)?);
    let (found, constant) = (seen.found, seen.constant);

    let mut nodes: BTreeMap<(usize, usize), Node> = BTreeMap::new();
    for &id in ids {
        let mutant = &mutants[id];
        let span = text.at(mutant.span.start)..text.at(mutant.span.end);
        let is_value = mutant.genre == "FnValue";
        if constant.iter().any(|(of, range)| (!is_value || *of == Constant::Function) && range.contains(&span.start)) {
            continue;
        }
        if is_value {
            nodes.entry((span.start, span.start)).or_default().others.push((id, mutant.replacement.clone()));
            continue;
        }
        let kind = match mutant.genre.as_str() {
            "BinaryOperator" => Kind::Binary,
            "UnaryOperator" => Kind::Unary,
            "StructField" => Kind::Struct,
            _ => Kind::Match,
        };
        let around = found
            .iter()
            .filter(|(of, range)| *of == kind && range.start <= span.start && span.end <= range.end)
            .min_by_key(|(_, range)| range.len());
        if let Some((_, range)) = around {
            let other = [&source[range.start..span.start], &mutant.replacement, &source[span.end..range.end]].concat();
            nodes.entry((range.start, range.end)).or_default().others.push((id, other));
        }
    }

    // From the outside in: of those that begin at one place, the longest comes first, but what a function begins with
    // comes before its expressions.
    let mut order: Vec<((usize, usize), Node)> = nodes.into_iter().collect();
    order.sort_by_key(|((start, end), _)| (*start, *end != *start, usize::MAX - end));
    let mut out = String::new();
    render(source, 0..source.len(), &mut order.iter().peekable(), &mut out);
    let lines = (out.lines().enumerate())
        .filter_map(|(number, line)| Some((number + 1, line.strip_prefix("/*mutant ")?.split_once("*/")?.0)))
        .collect::<Vec<_>>();
    let mut there = Vec::new();
    for pair in lines.chunks(2) {
        let [(first, id), (last, _)] = pair else { return Err("a mark without its end".into()) };
        there.push((id.parse()?, *first..*last + 1));
    }
    Ok((out, there))
}

fn render<'a>(
    source: &str,
    range: Range<usize>,
    nodes: &mut std::iter::Peekable<impl Iterator<Item = &'a ((usize, usize), Node)>>,
    out: &mut String,
) {
    let mut at = range.start;
    while let Some(((start, end), node)) = nodes.next_if(|((start, end), _)| *start >= at && *end <= range.end) {
        out.push_str(&source[at..*start]);
        let is_match = source[*start..].starts_with("match");
        let (open, close) = if is_match { ("{", "}") } else { ("(", ")") };
        if start < end {
            out.push_str(open);
        }
        for (id, other) in &node.others {
            let what = if start == end { format!("return {other};") } else { other.clone() };
            let _ = write!(out, "if crate::mutant({id}) {{\n/*mutant {id}*/ {what}\n/*mutant {id}*/ }} else ");
        }
        if start < end {
            out.push_str("{\n");
            render(source, *start..*end, nodes, out);
            out.push_str("\n}");
            out.push_str(close);
        } else {
            out.push_str("{}\n");
        }
        at = *end;
    }
    out.push_str(&source[at..range.end]);
}

/// Which changes the compiler complains of.
fn refused(tree: &Path, lines: &BTreeMap<&str, Lines>) -> Result<BTreeSet<usize>, Box<dyn Error>> {
    let (messages, _) = check(tree)?;
    let mut wrong = BTreeSet::new();
    for message in messages {
        let children = message["children"].as_array().into_iter().flatten().map(|child| &child["spans"]);
        let spans = || children.clone().chain([&message["spans"]]).filter_map(Value::as_array).flatten();
        let at = |span: &Value| {
            let (first, last) = (span["line_start"].as_u64()? as usize, span["line_end"].as_u64()? as usize);
            Some((lines.get(span["file_name"].as_str()?)?, first, last))
        };
        // What is as large as a function names none of those in it.
        let named =
            spans().filter_map(at).filter(|(_, first, last)| last - first < 20).flat_map(|(there, first, last)| {
                there.iter().filter(move |(_, lines)| lines.start <= last && first < lines.end).map(|(id, _)| *id)
            });
        let before = wrong.len();
        let named: Vec<usize> = named.collect();
        wrong.extend(&named);
        if named.is_empty() && wrong.len() == before {
            // A function whose type follows from what is returned first: from a change at its beginning.
            let first = spans().filter_map(at).find_map(|(there, first, _)| {
                there
                    .iter()
                    .filter(|(_, lines)| lines.end <= first)
                    .max_by_key(|(_, lines)| lines.end)
                    .map(|(id, _)| *id)
            });
            wrong.extend(first);
        }
    }
    Ok(wrong)
}

/// The compiler's errors, and as it tells them.
fn check(tree: &Path) -> Result<(Vec<Value>, String), Box<dyn Error>> {
    let output = Command::new("cargo")
        .args(["check", "--quiet", "--lib", "--profile", "test", "--all-features", "--message-format=json"])
        .current_dir(tree)
        .env("RUSTFLAGS", "--cap-lints=allow")
        .output()?;
    let mut errors = Vec::new();
    let mut told = String::from_utf8(output.stderr)?;
    for line in std::str::from_utf8(&output.stdout)?.lines() {
        let mut message = serde_json::from_str::<Value>(line)?["message"].take();
        if message["level"] == "error" {
            told.push_str(message["rendered"].as_str().unwrap_or_default());
            errors.push(message.take());
        }
    }
    if errors.is_empty() && !output.status.success() { Err(told.into()) } else { Ok((errors, told)) }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Binary,
    Unary,
    Match,
    Struct,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constant {
    Function,
    Item,
}

struct Expressions<'a> {
    text: &'a Text<'a>,
    found: Vec<(Kind, Range<usize>)>,
    /// Where nothing can be asked.
    constant: Vec<(Constant, Range<usize>)>,
}

impl Expressions<'_> {
    fn find(&mut self, kind: Kind, expression: &impl Spanned) {
        self.found.push((kind, self.text.range(expression)));
    }
}

impl<'ast> Visit<'ast> for Expressions<'_> {
    fn visit_expr_binary(&mut self, expression: &'ast ExprBinary) {
        self.find(Kind::Binary, expression);
        syn::visit::visit_expr_binary(self, expression);
    }

    fn visit_expr_unary(&mut self, expression: &'ast ExprUnary) {
        self.find(Kind::Unary, expression);
        syn::visit::visit_expr_unary(self, expression);
    }

    fn visit_expr_match(&mut self, expression: &'ast ExprMatch) {
        self.find(Kind::Match, expression);
        syn::visit::visit_expr_match(self, expression);
    }

    fn visit_expr_struct(&mut self, expression: &'ast ExprStruct) {
        self.find(Kind::Struct, expression);
        syn::visit::visit_expr_struct(self, expression);
    }

    fn visit_expr_const(&mut self, expression: &'ast ExprConst) {
        self.constant.push((Constant::Item, self.text.range(expression)));
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.constant.push((Constant::Item, self.text.range(item)));
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        self.constant.push((Constant::Item, self.text.range(item)));
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.constant.push((Constant::Item, self.text.range(item)));
    }

    fn visit_type(&mut self, of: &'ast Type) {
        self.constant.push((Constant::Item, self.text.range(of)));
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        // Tests that are not for loom too stand behind a condition that cargo-mutants does not know.
        if module.ident == "tests" {
            self.constant.push((Constant::Function, self.text.range(module)));
        }
        syn::visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if function.sig.constness.is_some() {
            self.constant.push((Constant::Function, self.text.range(function)));
        }
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if function.sig.constness.is_some() {
            self.constant.push((Constant::Function, self.text.range(function)));
        }
        syn::visit::visit_impl_item_fn(self, function);
    }
}

/// A source by lines.
struct Text<'a> {
    source: &'a str,
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(source: &'a str) -> Self {
        let ends = source.match_indices('\n').map(|(at, _)| at + 1);
        Self { source, lines: std::iter::once(0).chain(ends).collect() }
    }

    fn at(&self, place: Place) -> usize {
        let line = self.lines[place.line - 1];
        let rest = &self.source[line..];
        line + rest.char_indices().nth(place.column - 1).map_or(rest.len(), |(at, _)| at)
    }

    fn range(&self, of: &impl Spanned) -> Range<usize> {
        let span = of.span();
        let place = |at: proc_macro2::LineColumn| self.at(Place { line: at.line, column: at.column + 1 });
        place(span.start())..place(span.end())
    }
}
