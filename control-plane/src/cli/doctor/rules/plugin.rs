//! Rules on how the filter is configured: what a failure does, bodies, and its own JSON.

use doorward_filter::config::Bodies;

use super::super::{
    finding::{Guard, Spot, Subject},
    plugin::{Failure, Plugin},
};

fn plugins(subject: &Subject<'_>, detail: impl Fn(&Guard<'_>, &Plugin) -> Option<String>) -> Vec<Spot> {
    let found = |guard: &Guard<'_>| Some(guard.spot(detail(guard, guard.plugin.as_ref()?)?));
    subject.guards.iter().filter_map(found).collect()
}

/// Requests pass when the VM fails.
pub fn opens(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |_, plugin| {
        (plugin.failure == Failure::Open).then(|| "failure_policy: FAIL_OPEN, or fail_open: true.".to_owned())
    })
}

/// A crash is for ever.
pub fn stays_closed(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |_, plugin| (plugin.failure == Failure::Closed).then(String::new))
}

/// The filter's JSON is not taken.
pub fn invalid(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |_, plugin| plugin.config.as_ref().err().cloned())
}

/// The proxy has no name that it can use.
pub fn node(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |_, plugin| {
        let config = plugin.config.as_ref().ok()?;
        let name = config.node.as_deref().unwrap_or(&subject.dump.node);
        let wrong = name.is_empty() || name.contains('/');
        wrong.then(|| format!("The name is {name:?}."))
    })
}

fn bodies(plugin: &Plugin) -> Option<Bodies> {
    Some(plugin.config.as_ref().ok()?.bodies)
}

/// The filter waits for bodies that the host does not hand over.
pub fn bodies_without_host(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |_, plugin| (bodies(plugin)? == Bodies::StopIteration && !plugin.stop_iteration).then(String::new))
}

/// The host would hand over bodies, the filter does not take them.
pub fn bodies_unused(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |_, plugin| (bodies(plugin)? == Bodies::None && plugin.stop_iteration).then(String::new))
}

/// Envoy's buffer without a word of the listener, in bytes.
const DEFAULT_BUFFER: u64 = 1 << 20;

/// The listener holds less than the filter may wait for.
pub fn small_buffer(subject: &Subject<'_>) -> Vec<Spot> {
    plugins(subject, |guard, plugin| {
        let config = plugin.config.as_ref().ok()?;
        if config.bodies == Bodies::None {
            return None;
        }
        let most = u64::from(config.max_body_bytes);
        let buffer = guard.manager.buffer.unwrap_or(DEFAULT_BUFFER);
        if buffer < most {
            return Some(format!("maxBodyBytes is {most}, per_connection_buffer_limit_bytes {buffer}."));
        }
        let window = guard.manager.stream_window.filter(|window| *window < most)?;
        Some(format!("maxBodyBytes is {most}, initial_stream_window_size {window}."))
    })
}
