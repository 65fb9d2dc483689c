//! `orlop dedup --html`: one page that needs nothing else, in which names are text and figures those of the JSON.

use std::fs;

use serde_json::Value;

use crate::dedup::{gzip, noise, tar};
use crate::support::Place;

const EVIL: &str = "<img src=x onerror=alert(1)>&\"'\u{202e}";

/// Two layers with a file in common, everything under names that mean something to a browser.
fn place() -> Place {
    let place = Place::new();
    let (shared, own) = (noise(1, 40_000), noise(2, 10_000));
    let script = "</td></table><script>alert(2)</script>";
    place.write(&format!("set/{EVIL}.tar"), tar(&[(script, &shared)]));
    place.write("set/two.tar.gz", gzip(&tar(&[("opt/shared", &shared), ("own", &own)])));
    place
}

/// The cells of each row of a table: what figures are exactly, and the other texts.
fn rows(page: &str, table: &str) -> Vec<Vec<String>> {
    let (_, from) = page.split_once(&format!("<table id=\"{table}\">")).unwrap();
    let (body, _) = from.split_once("<tbody>").unwrap().1.split_once("</tbody>").unwrap();
    let cell = |cell: &str| match cell.split_once("data-value=\"") {
        Some((_, value)) => value.split('"').next().unwrap().to_owned(),
        None => cell.split_once('>').unwrap().1.split("</td>").next().unwrap().to_owned(),
    };
    body.split("<tr>").skip(1).map(|row| row.split("<td").skip(1).map(cell).collect()).collect()
}

#[test]
fn a_page_shows_the_figures_of_the_json() {
    let place = place();
    let args = ["dedup", "set", "--by", "file", "--by", "fixed:4Ki", "--html", "page.html"];
    let report = place.json(&args);
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    let shown = rows(&page, "table-granularities");
    let expected = report["granularities"].as_array().unwrap();
    assert_eq!(shown.len(), expected.len());
    let ratio = |value: &Value| value.as_f64().map_or_else(String::new, |value| format!("{value:.4}"));
    for (shown, row) in shown.iter().zip(expected) {
        let counts = ["units", "uniqueUnits"].map(|key| row[key].to_string());
        assert_eq!((&shown[0], &shown[1..3]), (&row["name"].as_str().unwrap().to_owned(), &counts[..]));
        assert_eq!(shown[4], row["uniqueBytes"].to_string());
        for (at, key) in [(5, "ratioLogical"), (7, "ratioBeyondBlobs"), (8, "countRatio"), (14, "effective")]
        {
            assert_eq!(shown[at], ratio(&row[key]), "{key}");
        }
        let bytes = ["intraImageBytes", "interImageBytes", "zeroBytes", "packedBytes", "indexBytes"];
        assert_eq!(shown[9..14], bytes.map(|key| row[key].to_string()), "{}", shown[0]);
    }
    let wasted = rows(&page, "table-wasted");
    let file = &report["wastedFiles"][0];
    assert_eq!(wasted.len(), 1);
    assert_eq!(wasted[0][..3], ["wastedBytes", "length", "references"].map(|key| file[key].to_string()));
    let images: Vec<Vec<String>> = rows(&page, "table-images");
    for (shown, image) in images.iter().zip(report["images"].as_array().unwrap()) {
        assert_eq!(shown[3..5], ["logicalBytes", "plainBytes"].map(|key| image[key].to_string()));
    }
    // A plot has the same values as the table.
    let bar = |name: &str, figure: &str| {
        let bar = page.split("<rect").find(|bar| {
            bar.contains("class=\"bar\"")
                && bar.contains(&format!("data-label=\"{name}\""))
                && bar.contains(&format!("data-figure=\"{figure}\""))
        });
        let value = bar.unwrap().split_once("data-value=\"").unwrap().1;
        value.split('"').next().unwrap().parse::<f64>().unwrap()
    };
    for row in expected {
        let name = row["name"].as_str().unwrap();
        assert_eq!(bar(name, "packed-bytes"), row["packedBytes"].as_f64().unwrap());
        assert_eq!(bar(name, "index-bytes"), row["indexBytes"].as_f64().unwrap());
    }
}

#[test]
fn a_page_loads_nothing_and_names_are_text() {
    let place = place();
    place.ok(&["dedup", "set", "--by", "file", "--html", "page.html"]);
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("default-src 'none'"), "no policy");
    // The one script and the one style are those of the page.
    for (tag, times) in
        [("<script", 1), ("<style", 1), ("<link", 0), ("<img", 0), ("<iframe", 0), ("<base", 0)]
    {
        assert_eq!(page.matches(tag).count(), times, "{tag}");
    }
    for part in ["src=\"", "http:", "https:", "//", "@import", "url(", "javascript:"] {
        let found = page.replace(&shown(EVIL), "").replace("http://www.w3.org/2000/svg", "");
        let found = found.lines().find(|line| line.contains(part) && !line.trim_start().starts_with("//"));
        assert_eq!(found, None, "{part}");
    }
    let addresses = page.split("href=\"").skip(1);
    assert!(addresses.map(|address| address.chars().next()).all(|first| first == Some('#')));
    assert!(page.contains(&shown(EVIL)) && page.contains("&lt;/td&gt;&lt;/table&gt;&lt;script&gt;alert(2)"));
}

fn shown(name: &str) -> String {
    let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    name.replace('"', "&quot;").replace('\'', "&#39;").replace('\u{202e}', "\\u{202e}")
}
