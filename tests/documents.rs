//! The documents match the code: links and item names resolve, commands exist, programs are compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use serde_json::Value;

/// The file system, with paths relative to the root of the repository.
mod fs {
    use std::fs::ReadDir;
    use std::io;
    use std::path::{Path, PathBuf};

    fn at_root(path: impl AsRef<Path>) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
    }

    pub(super) fn exists(path: impl AsRef<Path>) -> bool {
        at_root(path).exists()
    }

    pub(super) fn is_dir(path: impl AsRef<Path>) -> bool {
        at_root(path).is_dir()
    }

    pub(super) fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
        std::fs::read_dir(at_root(path))
    }

    pub(super) fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
        std::fs::read_to_string(at_root(path))
    }
}

#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<String>,
    /// Inline code, except in links to items, which rustdoc checks.
    code: Vec<String>,
    /// Language and text.
    blocks: Vec<(String, String)>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        let mut block: Option<(String, String)> = None;
        let mut is_in_item_link = false;
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.into_string(),
                        CodeBlockKind::Indented => "indented".to_owned(),
                    };
                    block = Some((language, String::new()));
                }
                Event::End(TagEnd::CodeBlock) => page.blocks.extend(block.take()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    is_in_item_link = dest_url.contains("::");
                    page.links.push(dest_url.into_string());
                }
                Event::End(TagEnd::Link) => is_in_item_link = false,
                Event::Text(text) => {
                    if let Some((_, block)) = &mut block {
                        block.push_str(&text);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&text);
                    }
                }
                Event::Code(code) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                    if !is_in_item_link {
                        page.code.push(code.into_string());
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// Names headings as GitHub does: lower case, hyphens for spaces, no other punctuation, numbers for repeats.
    fn add_anchor(&mut self, heading: &str) {
        let kept = heading.to_lowercase().replace(' ', "-");
        let name: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let taken = |name: &String| self.anchors.contains(name);
        let name = match (1..).map(|n| format!("{name}-{n}")).find(|numbered| !taken(numbered)) {
            Some(numbered) if taken(&name) => numbered,
            _ => name,
        };
        self.anchors.insert(name);
    }

    fn shell_lines(&self) -> impl Iterator<Item = &str> {
        let blocks = self.blocks.iter().filter(|(language, _)| matches!(&**language, "sh" | "bash" | "console"));
        blocks.flat_map(|(_, text)| text.lines())
    }
}

/// Every Markdown file of the repository.
fn pages() -> BTreeMap<PathBuf, Page> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        for entry in fs::read_dir(here).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = folder.join(&name);
            if fs::is_dir(&path) {
                if !matches!(&*name, ".git" | "target" | "node_modules" | "corpus" | "artifacts" | "coverage") {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                found.insert(path.clone(), Page::read(&path));
            }
        }
    }
    assert!(found.contains_key(Path::new("README.md")) && found.len() >= 10, "only {:?}", found.keys());
    found
}

/// Whether a page is part of the crate documentation. Rustdoc checks its links, which cannot name files.
fn is_rustdoc(page: &Path) -> bool {
    page.starts_with("docs/guide") || page == Path::new("docs/crate.md")
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Turns `a/b/../c` into `a/c`.
fn normalized(path: &Path) -> PathBuf {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => assert!(normalized.pop(), "{} leaves the repository", path.display()),
            std::path::Component::CurDir => {}
            other => normalized.push(other),
        }
    }
    normalized
}

#[test]
fn links_resolve_to_files_and_headings() {
    let pages = pages();
    let mut faults = Vec::new();
    for (path, page) in &pages {
        for link in &page.links {
            if link.contains(':') {
                // Another site, or an item of this crate.
                continue;
            }
            let (file, anchor) = link.split_once('#').map_or((&**link, None), |(file, anchor)| (file, Some(anchor)));
            let is_here = file.is_empty();
            let target = if is_here { path.clone() } else { normalized(&path.with_file_name(file)) };
            let there = match anchor {
                _ if is_rustdoc(path) && !is_here => false,
                Some(anchor) => pages.get(&target).is_some_and(|page| page.anchors.contains(anchor)),
                None => fs::exists(&target),
            };
            if !there {
                faults.push(format!("{}: {link} does not resolve", path.display()));
            }
        }
    }
    report(&faults);
}

/// Inline code that looks like a path is one, relative to the root or to `src/`.
#[test]
fn named_files_exist() {
    const FOLDERS: [&str; 19] = [
        ".cargo",
        ".ci",
        ".github",
        "authentication",
        "authorization",
        "benches",
        "client",
        "docs",
        "examples",
        "fetch",
        "fuzz",
        "http",
        "layer",
        "registration",
        "registry",
        "request_object",
        "src",
        "state",
        "tests",
    ];
    let mut faults = Vec::new();
    for (path, page) in pages() {
        if path == Path::new("docs/comparison.md") {
            // Names files of other repositories.
            continue;
        }
        for code in &page.code {
            let folder = code.split_once('/').map(|(folder, _)| folder);
            let looks_like_one =
                folder.is_some_and(|folder| FOLDERS.contains(&folder)) && !code.contains([' ', '*', '<']);
            let vectors =
                code.strip_suffix(".json").filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            let there = match vectors {
                Some(_) => {
                    path != Path::new("docs/threat-model.md") || fs::exists(Path::new("tests/vectors").join(code))
                }
                None if looks_like_one => ["", "src"].iter().any(|root| {
                    let file = Path::new(root).join(code);
                    fs::exists(&file) || fs::exists(file.with_extension("rs"))
                }),
                None => true,
            };
            if !there {
                faults.push(format!("{}: there is no {code}", path.display()));
            }
        }
    }
    report(&faults);
}

/// The names that a `cargo` command may use.
struct Cargo {
    manifest: toml::Table,
    /// Manifests of packages that hold tests only.
    tests: [toml::Table; 2],
    aliases: BTreeMap<String, Vec<String>>,
}

impl Cargo {
    /// Commands of cargo, and those that CONTRIBUTING.md says how to install.
    const COMMANDS: [&str; 21] = [
        "add",
        "bench",
        "build",
        "check",
        "clippy",
        "doc",
        "fmt",
        "install",
        "metadata",
        "package",
        "publish",
        "run",
        "test",
        "tree",
        "update",
        "check-external-types",
        "deny",
        "fuzz",
        "hack",
        "mutants",
        "semver-checks",
    ];

    fn read() -> Self {
        let table = |path| fs::read_to_string(path).unwrap().parse::<toml::Table>().unwrap();
        let words = |value: &toml::Value| match value {
            toml::Value::String(line) => line.split(' ').map(str::to_owned).collect(),
            list => list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
        };
        let config = table(".cargo/config.toml");
        let aliases = config["alias"].as_table().unwrap();
        Self {
            manifest: table("Cargo.toml"),
            tests: ["tests/Cargo.toml", "tests/examples/Cargo.toml"].map(table),
            aliases: aliases.iter().map(|(name, value)| (name.clone(), words(value))).collect(),
        }
    }

    fn has_target(&self, kind: &str, name: &str) -> bool {
        let manifests = [&self.manifest].into_iter().chain(&self.tests);
        let targets = manifests.filter_map(|manifest| manifest.get(kind)?.as_array()).flatten();
        let mut names = targets.filter_map(|target| target["name"].as_str());
        names.any(|found| found == name)
    }

    /// Says what is wrong with the words after `cargo`.
    fn fault(&self, words: &[&str]) -> Option<String> {
        let mut words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('+')).collect();
        let command = *words.first()?;
        if let Some(alias) = self.aliases.get(command) {
            words.splice(..1, alias.iter().map(String::as_str));
        }
        let command = words[0];
        if !Self::COMMANDS.contains(&command) {
            return Some(format!("no command or alias `{command}`"));
        }
        let ours = words.iter().take_while(|word| **word != "--").count();
        let (ours, theirs) = words.split_at(ours);
        for (option, value) in ours.iter().zip(ours.iter().skip(1)) {
            let there = match *option {
                "--features" if !value.contains('$') => {
                    value.split(',').all(|feature| self.manifest["features"].get(feature).is_some() || command == "add")
                }
                "--example" | "--bench" | "--test" => self.has_target(&option[2..], value),
                "-p" | "--package" => is_package(value),
                _ => true,
            };
            if !there {
                return Some(format!("no {value} for {option}"));
            }
        }
        if command == "fuzz" && ours.get(1) == Some(&"run") {
            let target = ours.iter().skip(2).rfind(|word| !word.starts_with('-') && **word != "none")?;
            let file = format!("fuzz/fuzz_targets/{target}.rs");
            return (!target.contains('$') && !fs::exists(&file)).then(|| format!("no {file}"));
        }
        let program = ours.iter().position(|word| matches!(*word, "--example" | "-p")).and_then(|at| ours.get(at + 1));
        program.and_then(|program| unknown_option(program, theirs))
    }
}

/// Whether the workspace has this package.
fn is_package(name: &str) -> bool {
    let example = format!("examples/{name}/Cargo.toml");
    let manifests = [&*example, "Cargo.toml", "tests/Cargo.toml", "tests/examples/Cargo.toml"].into_iter();
    let manifests = manifests.filter_map(|path| fs::read_to_string(path).ok());
    manifests
        .filter_map(|text| text.parse::<toml::Table>().ok())
        .any(|table| table["package"]["name"].as_str() == Some(name))
}

/// An option that the command line of an example does not declare.
fn unknown_option(example: &str, words: &[&str]) -> Option<String> {
    let declared = fs::read_to_string(format!("examples/{example}/src/args.rs")).ok()?;
    let is_declared = |name: &str| {
        let field = format!(" {}: ", name.replace('-', "_"));
        name == "help" || declared.contains(&field) || declared.contains(&format!("long = \"{name}\""))
    };
    let mut options = words.iter().filter_map(|word| word.strip_prefix("--")).filter(|name| !name.is_empty());
    options.find(|name| !is_declared(name)).map(|name| format!("{example} has no --{name}"))
}

#[test]
fn commands_exist_and_name_what_exists() {
    let cargo = Cargo::read();
    let mut seen = 0;
    let mut faults = Vec::new();
    let mut check = |place: &str, line: &str| {
        let line = line.split(" #").next().unwrap_or_default().split('|').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let fault = match words.iter().position(|word| !word.contains('=')) {
            Some(at) if words[at] == "cargo" => {
                seen += 1;
                cargo.fault(&words[at + 1..])
            }
            Some(at) if words[at] == "clients" => unknown_option("clients", &words[at + 1..]),
            Some(at) if words[at].starts_with("tests/") || words[at].starts_with(".ci/") => {
                (!fs::exists(words[at])).then(|| format!("no {}", words[at]))
            }
            _ => None,
        };
        faults.extend(fault.map(|fault| format!("{place}: {line}: {fault}")));
    };
    for (path, page) in pages() {
        let place = path.display().to_string();
        page.shell_lines().chain(page.code.iter().map(String::as_str)).for_each(|line| check(&place, line));
    }
    for line in fs::read_to_string(".ci/run").unwrap().lines() {
        check(".ci/run", line.trim());
    }
    for alias in cargo.aliases.keys() {
        check(".cargo/config.toml", &format!("cargo {alias}"));
    }
    report(&faults);
    assert!(seen >= 20, "only {seen} commands were found");
}

/// A page with Rust code is included in `src/lib.rs`, so that its code is a doc test.
#[test]
fn programs_in_pages_are_compiled() {
    let library = fs::read_to_string("src/lib.rs").unwrap();
    let mut faults = Vec::new();
    for (path, page) in pages() {
        let is_included = library.contains(&format!("include_str!(\"../{}\")", path.display()));
        if is_rustdoc(&path) && !is_included {
            faults.push(format!("{}: src/lib.rs does not include it", path.display()));
        }
        for (language, text) in &page.blocks {
            let words: Vec<&str> = language.split(',').collect();
            let is_rust = words[0].is_empty() || words[0] == "rust" || words[0] == "no_run";
            if is_rust && !is_included {
                faults.push(format!("{}: this program is not compiled: {text}", path.display()));
            }
            if words.contains(&"ignore") || words.contains(&"compile_fail") || words[0] == "indented" {
                faults.push(format!("{}: this block is not checked: {text}", path.display()));
            }
        }
    }
    report(&faults);
}

/// The code in the README is that of the example, which a test runs.
#[test]
fn the_readme_shows_the_axum_example() {
    let readme = Page::read(Path::new("README.md"));
    let (_, code) = readme.blocks.iter().find(|(language, _)| language == "rust").unwrap();
    let (_, functions) = code.split_once("\n\n").unwrap();
    let example = fs::read_to_string("examples/axum.rs").unwrap();
    assert!(example.contains(functions), "the functions in README.md are not those in examples/axum.rs");
}

/// The public items of the crate, and the members that each has.
struct Surface {
    exported: BTreeSet<String>,
    members: BTreeMap<String, BTreeSet<String>>,
}

impl Surface {
    fn read() -> Self {
        let library = fs::read_to_string("src/lib.rs").unwrap();
        let statements = library.split("pub use ").skip(1).filter_map(|rest| rest.split_once(';'));
        let exported = statements
            .flat_map(|(statement, _)| {
                let names = statement.rsplit_once("::").map_or(statement, |(_, names)| names);
                names.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned)
            })
            .filter(|name| !name.is_empty())
            .collect();
        let mut surface = Self { exported, members: BTreeMap::new() };
        let mut folders = vec![PathBuf::from("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if fs::is_dir(&path) {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    surface.add_members(&fs::read_to_string(path).unwrap());
                }
            }
        }
        surface
    }

    /// Reads types, traits and `impl` blocks at the margin, and what is one level below them.
    fn add_members(&mut self, source: &str) {
        let mut owner = None;
        for line in source.lines() {
            if !line.starts_with(' ') {
                owner = owner_of(line).or(owner.filter(|_| line != "}"));
            } else if let (Some(owner), Some(line)) = (&owner, line.strip_prefix("    ")) {
                let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
                let keywords = ["pub", "crate", "super", "async", "const", "fn", "type"];
                let name = words.find(|word| !keywords.contains(word));
                self.members.entry(String::clone(owner)).or_default().extend(name.map(str::to_owned));
            }
        }
    }

    /// Says what is wrong with inline code that names an item, such as `Policy` or `Policy::check`.
    fn fault(&self, code: &str) -> Option<String> {
        let (item, member) = code.split_once("::").map_or((code, None), |(item, member)| (item, Some(member)));
        let is_type = item.starts_with(|c: char| c.is_ascii_uppercase())
            && item.contains(|c: char| c.is_ascii_lowercase())
            && item.chars().all(|c| c.is_ascii_alphanumeric());
        if !is_type || OTHER_NAMES.contains(&item) {
            return None;
        }
        if !self.exported.contains(item) {
            return Some(format!("there is no item `{item}`"));
        }
        let member = member?.split(['(', '<', '.']).next()?;
        let is_known = self.members.get(item).is_some_and(|members| members.contains(member));
        (!is_known).then(|| format!("`{item}` has no `{member}`"))
    }
}

/// The type that a line at the margin declares or implements.
fn owner_of(line: &str) -> Option<String> {
    let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
    let (keyword, rest) = line.split_once([' ', '<'])?;
    let name = match keyword {
        "struct" | "enum" | "trait" => rest,
        "impl" => rest.split_once(" for ").map_or_else(
            || if line.starts_with("impl<") { rest.split_once("> ").map_or(rest, |(_, name)| name) } else { rest },
            |(_, name)| name,
        ),
        _ => return None,
    };
    Some(name.split(|c: char| !c.is_alphanumeric()).next()?.to_owned())
}

/// Headers, values and types of others that look like items of this crate.
const OTHER_NAMES: [&str; 14] = [
    "Accept",
    "Authorization",
    "Basic",
    "BrowserSpelling",
    "ConcurrencyLimit",
    "Cargo",
    "Content",
    "Form",
    "Host",
    "Location",
    "Origin",
    "ProvenRequest",
    "Query",
    "Router",
];

#[test]
fn named_items_exist() {
    let surface = Surface::read();
    let mut faults = Vec::new();
    let mut seen = 0;
    let mut check = |path: &Path, code: &str| {
        seen += usize::from(surface.exported.contains(code.split("::").next().unwrap_or_default()));
        faults.extend(surface.fault(code).map(|fault| format!("{}: {fault}", path.display())));
    };
    for (path, page) in pages() {
        if path == Path::new("docs/mutants.md") {
            // Names private items.
            continue;
        }
        if path == Path::new("docs/comparison.md") {
            // The other columns are about other software.
            let text = fs::read_to_string(&path).unwrap();
            let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").nth(1));
            cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).for_each(|code| check(&path, code));
        } else {
            page.code.iter().for_each(|code| check(&path, code));
        }
    }
    report(&faults);
    assert!(seen >= 30, "only {seen} items were found");
}

/// The table of minimum Rust versions is the same in the README and in the crate documentation.
#[test]
fn the_minimum_rust_versions_are_stated_once() {
    let table = |path: &str| {
        let text = fs::read_to_string(path).unwrap();
        let (_, rest) = text.split_once("<!-- msrv -->").unwrap();
        rest.split_once("<!-- /msrv -->").unwrap().0.to_owned()
    };
    assert_eq!(table("README.md"), table("docs/crate.md"));
}

/// The README's table has every feature, and `full` turns all of them on.
#[test]
fn the_readme_lists_every_feature() {
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let readme = fs::read_to_string("README.md").unwrap();
    let features = manifest["features"].as_table().unwrap();
    for feature in features.keys().filter(|feature| *feature != "default") {
        assert!(
            readme.lines().any(|line| line.starts_with("| ") && line.contains(&format!("`{feature}`"))),
            "{feature} is not in the README"
        );
    }
    let full: BTreeSet<_> = features["full"].as_array().unwrap().iter().filter_map(toml::Value::as_str).collect();
    let each: BTreeSet<_> =
        features.keys().map(String::as_str).filter(|name| !matches!(*name, "default" | "full")).collect();
    assert_eq!(full, each);
}

#[test]
fn contributing_names_the_default_dependencies() {
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let is_optional = |value: &toml::Value| value.get("optional").and_then(toml::Value::as_bool) == Some(true);
    let dependencies = manifest["dependencies"].as_table().unwrap();
    let default: BTreeSet<_> =
        dependencies.iter().filter(|(_, value)| !is_optional(value)).map(|(name, _)| name.as_str()).collect();

    let contributing = fs::read_to_string("CONTRIBUTING.md").unwrap();
    let (_, section) = contributing.split_once("## Dependencies").unwrap();
    let named = section.lines().find(|line| line.starts_with('`')).unwrap();
    let named: BTreeSet<_> = named.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, default);
}

/// The `source` members of each file of vectors.
fn sources() -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir("tests/vectors").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".json") {
            let vectors: Vec<Value> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            let sources = vectors.iter().filter_map(|vector| vector.get("source")?.as_str());
            found.entry(name).or_default().extend(sources.map(str::to_owned));
        }
    }
    found
}

/// Every vulnerability in the threat model has a vector or test in the file that its row names.
#[test]
fn each_vulnerability_in_the_threat_model_is_covered() {
    let is_vulnerability =
        |source: &str| ["CVE-", "GHSA-"].iter().any(|prefix| source.starts_with(prefix)) || source.contains(" issue ");
    let sources = sources();
    let model = fs::read_to_string("docs/threat-model.md").unwrap();
    let (_, section) = model.split_once("## Published vulnerabilities").unwrap();
    let mut listed = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (id, covered_in) = (cells[0].trim_start_matches("| "), cells.last().unwrap());
        if !is_vulnerability(id) {
            continue;
        }
        for file in covered_in.split('`').skip(1).step_by(2) {
            let is_there = match sources.get(file) {
                Some(sources) => sources.contains(id),
                None => fs::read_to_string(file).unwrap_or_default().contains(id),
            };
            assert!(is_there, "{id} is not in {file}");
        }
        assert!(covered_in.contains('`'), "{id} is not covered");
        listed.insert(id);
    }
    assert!(listed.len() >= 20, "only {listed:?}");
    for source in sources.values().flatten().filter(|source| is_vulnerability(source)) {
        assert!(listed.contains(&**source), "{source} is not in the threat model");
    }
}
