//! The documents say what the code does: their links lead somewhere, their commands exist, their programs are compiled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use serde_json::Value;

/// What is read of a page.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<String>,
    /// Inline code.
    code: Vec<String>,
    /// The language, and the text.
    blocks: Vec<(String, String)>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        let mut block: Option<(String, String)> = None;
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
                    page.links.push(dest_url.into_string());
                }
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
                    page.code.push(code.into_string());
                }
                _ => {}
            }
        }
        page
    }

    /// As GitHub names headings: lower case, spaces as hyphens, other punctuation gone, repeats numbered.
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
            if path.is_dir() {
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

/// Pages of the crate documentation: rustdoc checks their links, and shows no files beside them.
fn is_rustdoc(page: &Path) -> bool {
    page.starts_with("docs/guide") || page == Path::new("docs/crate.md")
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// `a/b/../c` is `a/c`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => assert!(tidy.pop(), "{} leaves the repository", path.display()),
            std::path::Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

#[test]
fn links_lead_to_files_and_headings_that_are_there() {
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
            let target = if is_here { path.clone() } else { tidy(&path.with_file_name(file)) };
            let there = match anchor {
                _ if is_rustdoc(path) && !is_here => false,
                Some(anchor) => pages.get(&target).is_some_and(|page| page.anchors.contains(anchor)),
                None => target.exists(),
            };
            if !there {
                faults.push(format!("{}: {link} leads nowhere", path.display()));
            }
        }
    }
    report(&faults);
}

/// Code that looks like a path is one, from the root or from `src/`.
#[test]
fn files_that_are_named_are_there() {
    const FOLDERS: [&str; 14] = [
        ".cargo",
        ".ci",
        ".github",
        "authorization",
        "benches",
        "client",
        "docs",
        "examples",
        "fuzz",
        "layer",
        "registration",
        "registry",
        "src",
        "tests",
    ];
    let mut faults = Vec::new();
    for (path, page) in pages() {
        if path == Path::new("docs/comparison.md") {
            // Names files of others.
            continue;
        }
        for code in &page.code {
            let folder = code.split_once('/').map(|(folder, _)| folder);
            let looks_like_one =
                folder.is_some_and(|folder| FOLDERS.contains(&folder)) && !code.contains([' ', '*', '<']);
            let vectors =
                code.strip_suffix(".json").filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            let there = match vectors {
                Some(_) => path != Path::new("docs/threat-model.md") || Path::new("tests/vectors").join(code).exists(),
                None if looks_like_one => ["", "src"].iter().any(|root| {
                    let file = Path::new(root).join(code);
                    file.exists() || file.with_extension("rs").exists()
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

/// What a `cargo` command may name.
struct Cargo {
    manifest: toml::Table,
    aliases: BTreeMap<String, Vec<String>>,
}

impl Cargo {
    /// Commands that come with cargo, and those that CONTRIBUTING.md tells how to install.
    const COMMANDS: [&str; 20] = [
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
            aliases: aliases.iter().map(|(name, value)| (name.clone(), words(value))).collect(),
        }
    }

    fn has_target(&self, kind: &str, name: &str) -> bool {
        let targets = self.manifest.get(kind).and_then(toml::Value::as_array).into_iter().flatten();
        targets.filter_map(|target| target["name"].as_str()).any(|found| found == name)
    }

    /// What is wrong with a command line, from the word behind `cargo` on.
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
                _ => true,
            };
            if !there {
                return Some(format!("no {value} for {option}"));
            }
        }
        if command == "fuzz" && ours.get(1) == Some(&"run") {
            let target = ours.iter().skip(2).rfind(|word| !word.starts_with('-') && **word != "none")?;
            let file = format!("fuzz/fuzz_targets/{target}.rs");
            return (!target.contains('$') && !Path::new(&file).exists()).then(|| format!("no {file}"));
        }
        let example = ours.iter().position(|word| *word == "--example").and_then(|at| ours.get(at + 1));
        example.and_then(|example| unknown_option(example, theirs))
    }
}

/// The option of an example that its help does not know.
fn unknown_option(example: &str, words: &[&str]) -> Option<String> {
    let help = fs::read_to_string(format!("examples/{example}/args.rs")).ok()?;
    let mut options = words.iter().filter_map(|word| word.strip_prefix("--")).filter(|name| !name.is_empty());
    options.find(|name| !help.contains(&format!("--{name}"))).map(|name| format!("{example} has no --{name}"))
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
                (!Path::new(words[at]).exists()).then(|| format!("no {}", words[at]))
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

/// Rust in a page is a test of the documentation, which `src/lib.rs` includes.
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
                faults.push(format!("{}: a program that nobody compiles: {text}", path.display()));
            }
            if words.contains(&"ignore") || words.contains(&"compile_fail") || words[0] == "indented" {
                faults.push(format!("{}: a block that nobody checks: {text}", path.display()));
            }
        }
    }
    report(&faults);
}

/// The README's example is the program that is run in tests.
#[test]
fn the_example_in_the_readme_is_the_one_that_runs() {
    let readme = fs::read_to_string("README.md").unwrap();
    let example = fs::read_to_string("examples/axum.rs").unwrap();
    let (_head, code) = example.split_once("\n\n").unwrap();
    assert!(readme.contains(&format!("```rust,no_run\n{code}```")), "copy examples/axum.rs into README.md");
}

/// Each feature is in the README's table, and `full` has all.
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

/// What a build without features brings along is counted in the README.
#[test]
fn the_readme_names_the_default_dependencies() {
    let manifest: toml::Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let is_optional = |value: &toml::Value| value.get("optional").and_then(toml::Value::as_bool) == Some(true);
    let dependencies = manifest["dependencies"].as_table().unwrap();
    let default: BTreeSet<_> =
        dependencies.iter().filter(|(_, value)| !is_optional(value)).map(|(name, _)| name.as_str()).collect();

    let readme = fs::read_to_string("README.md").unwrap();
    let (_, section) = readme.split_once("## Dependencies").unwrap();
    let named = section.lines().find(|line| line.starts_with('`')).unwrap();
    let named: BTreeSet<_> = named.split('`').skip(1).step_by(2).collect();
    assert_eq!(named, default);
    assert!(section.contains(&format!("These {} crates", default.len())), "there are {}", default.len());
}

/// The names in `source` members of the vectors.
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

/// The table of public vulnerabilities names where each is shown, and it is there.
#[test]
fn each_vulnerability_in_the_threat_model_is_shown() {
    let is_vulnerability =
        |source: &str| ["CVE-", "GHSA-"].iter().any(|prefix| source.starts_with(prefix)) || source.contains(" issue ");
    let sources = sources();
    let model = fs::read_to_string("docs/threat-model.md").unwrap();
    let (_, section) = model.split_once("## Public vulnerabilities").unwrap();
    let mut listed = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (id, shown_in) = (cells[0].trim_start_matches("| "), cells.last().unwrap());
        if !is_vulnerability(id) {
            continue;
        }
        for file in shown_in.split('`').skip(1).step_by(2) {
            let is_there = match sources.get(file) {
                Some(sources) => sources.contains(id),
                None => fs::read_to_string(file).unwrap_or_default().contains(id),
            };
            assert!(is_there, "{id} is not in {file}");
        }
        assert!(shown_in.contains('`'), "{id} is shown nowhere");
        listed.insert(id);
    }
    assert!(listed.len() >= 20, "only {listed:?}");
    for source in sources.values().flatten().filter(|source| is_vulnerability(source)) {
        assert!(listed.contains(&**source), "{source} is not in the threat model");
    }
}
