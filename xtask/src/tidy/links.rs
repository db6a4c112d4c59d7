//! Links of Markdown pages: the file they lead to exists, and so does the heading.

use std::path::{Component, Path, PathBuf};

use super::{Finding, Text, folder_of, prose_lines};

pub(super) fn check(root: &Path, texts: &[Text]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in texts.iter().filter(|text| is_page(text)) {
        for (line, prose) in prose_lines(&page.content) {
            for target in targets(prose) {
                if let Some(problem) = problem(root, texts, page, target) {
                    findings.push(Finding::new(&page.path, line, problem, "mend the link or the heading it means"));
                }
            }
        }
    }
    findings
}

fn is_page(text: &Text) -> bool {
    text.has_extension("md") && (folder_of(&text.path) == Path::new("") || text.is_below("docs"))
}

fn problem(root: &Path, texts: &[Text], page: &Text, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let file = if path.is_empty() { page.path.clone() } else { resolved(folder_of(&page.path), path) };
    if !root.join(&file).exists() {
        return Some(format!("the link leads to {}, which does not exist", file.display()));
    }
    let anchor = anchor?;
    let linked = texts.iter().find(|text| text.path == file && text.has_extension("md"))?;
    (!anchors(&linked.content).iter().any(|known| known == anchor))
        .then(|| format!("{} has no heading for #{anchor}", file.display()))
}

/// `path` as seen from `folder`, without `.` and `..`.
fn resolved(folder: &Path, path: &str) -> PathBuf {
    let mut file = folder.to_path_buf();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                file.pop();
            }
            Component::Normal(name) => file.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    file
}

/// Targets of `[text](target)`, `[text](target "title")` and `[label]: target` in one line.
fn targets(line: &str) -> Vec<&str> {
    let line_without_code: Vec<&str> = line.split('`').step_by(2).collect();
    let mut found = Vec::new();
    for prose in line_without_code {
        let mut rest = prose;
        // A label in code ends its piece, so that the target may open the next one.
        if let Some(after) = rest.strip_prefix("](") {
            push_target(after, &mut found);
        }
        while let Some(at) = rest.get(1..).and_then(|tail| tail.find("](")) {
            rest = &rest[at + 1..];
            push_target(&rest[2..], &mut found);
        }
    }
    if let Some(definition) = line.trim_start().strip_prefix('[')
        && let Some((_, target)) = definition.split_once("]: ")
        && let Some(target) = target.split_whitespace().next()
    {
        found.push(target.trim_start_matches('<').trim_end_matches('>'));
    }
    found
}

fn push_target<'a>(after: &'a str, found: &mut Vec<&'a str>) {
    if let Some(end) = after.find(')')
        && let Some(target) = after[..end].split_whitespace().next()
    {
        found.push(target.trim_start_matches('<').trim_end_matches('>'));
    }
}

/// The anchors a page offers: its headings in the form that forges give them, and explicit `<a id="…">`.
fn anchors(content: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for (_, line) in prose_lines(content) {
        let title = line.trim_start_matches('#');
        let depth = line.len() - title.len();
        if (1..=6).contains(&depth) && title.starts_with(' ') {
            let slug = slug(title.trim());
            let twins = anchors
                .iter()
                .filter(|known| **known == slug || known.strip_prefix(&slug).is_some_and(is_number_suffix))
                .count();
            anchors.push(if twins == 0 { slug } else { format!("{slug}-{twins}") });
        }
        for attribute in ["<a id=\"", "<a name=\""] {
            if let Some((_, rest)) = line.split_once(attribute)
                && let Some((id, _)) = rest.split_once('"')
            {
                anchors.push(id.to_owned());
            }
        }
    }
    anchors
}

fn is_number_suffix(suffix: &str) -> bool {
    suffix
        .strip_prefix('-')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn slug(title: &str) -> String {
    title
        .chars()
        .filter_map(|char| match char {
            ' ' => Some('-'),
            '-' | '_' => Some(char),
            _ if char.is_alphanumeric() => Some(char),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_link_is_seen() {
        for (line, expected) in [
            ("see [a](b.md) and [c](d.md#e \"title\")", vec!["b.md", "d.md#e"]),
            ("[`code`](b.md) but not `[a](x.md)`", vec!["b.md"]),
            ("![picture](<p.png>)", vec!["p.png"]),
            ("[label]: target.md", vec!["target.md"]),
            ("plain (text) [only]", vec![]),
        ] {
            assert_eq!(targets(line), expected, "{line}");
        }
    }

    #[test]
    fn headings_become_the_anchors_a_forge_gives_them() {
        let page = "# The `WAL`, in short\n## Limits\n```text\n# not a heading\n```\n## Limits\n#hashtag\n<a id=\"x\">";
        assert_eq!(anchors(page), ["the-wal-in-short", "limits", "limits-1", "x"]);
    }

    #[test]
    fn a_broken_link_is_found_with_its_line() {
        let page = |path: &str, content: &str| Text { path: path.into(), content: content.to_owned() };
        let texts = [
            page("README.md", "ok [x](#here)\n\n# Here\n[y](docs/none.md)\n[z](docs/a.md#no)\n"),
            page("docs/a.md", "[up](../README.md#here)"),
        ];
        let root = std::env::temp_dir().join(format!("kymo-links-{}", std::process::id()));
        std::fs::create_dir_all(root.join("docs")).unwrap();
        for text in &texts {
            std::fs::write(root.join(&text.path), &text.content).unwrap();
        }
        let found: Vec<(usize, String)> =
            check(&root, &texts).into_iter().map(|finding| (finding.line, finding.problem)).collect();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            found,
            [
                (4, "the link leads to docs/none.md, which does not exist".to_owned()),
                (5, "docs/a.md has no heading for #no".to_owned()),
            ]
        );
    }
}
