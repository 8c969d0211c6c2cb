//! Applications that wait for each other in a circle would wait for ever: they are refused.

use std::collections::BTreeSet;

use muster_proto::ApplicationName;

use super::Fleet;
use super::document::{Broken, Kind};

/// Rejects every application that depends on itself, by whatever way; the error names the way.
pub(super) fn refuse(fleet: &mut Fleet) {
    let circles: Vec<_> = fleet
        .applications
        .keys()
        .filter_map(|name| Some((name.clone(), circle(fleet, name)?)))
        .collect();
    for (name, way) in circles {
        let Some(application) = fleet.applications.remove(&name) else {
            continue;
        };
        let way: Vec<_> = way.iter().map(ApplicationName::as_str).collect();
        fleet.reject(Broken::named(
            Kind::Application,
            name.as_str(),
            application.location.clone(),
            format!("dependsOn goes round in a circle: {}", way.join(" -> ")),
        ));
    }
}

/// A way from an application back to itself.
fn circle(fleet: &Fleet, start: &ApplicationName) -> Option<Vec<ApplicationName>> {
    let mut seen = BTreeSet::new();
    let mut ways = vec![vec![start.clone()]];
    while let Some(way) = ways.pop() {
        let last = way.last()?;
        let Some(application) = fleet.applications.get(last) else {
            continue;
        };
        for next in &application.settings.depends_on {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push(longer);
            }
        }
    }
    None
}
