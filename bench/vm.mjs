// Runs the filter's module in the V8 of Node.js with a host that answers as Envoy does, and prints per request: time in
// the VM and in this host, and the calls into the host by name. Envoy's own side of the calls is not in the time.
//
//   node bench/vm.mjs FILTER.wasm FOLDER [SECONDS]     (FOLDER: as bench/examples/vm_fixture.rs writes it)
//
// With `--cpu-prof` and a module built with names (DOORWARD_WASM_CARGO_ARGS='--config profile.wasm.strip="debuginfo"')
// Node writes a profile by function.
import { readFileSync } from "node:fs";

const [file, folder, seconds = "2"] = process.argv.slice(2);
const fixture = JSON.parse(readFileSync(`${folder}/vm.json`, "utf8"));
const body = Buffer.from('{"resource":[{"id":1,"name":"Alice Example","email":"alice@example.com"}]}');
const shared = new Map([
  ["doorward/policy/default", { value: readFileSync(`${folder}/policy.bin`), cas: 1 }],
  ["doorward/stamp/default", { value: Buffer.from("1"), cas: 1 }],
]);
const configuration = Buffer.from(JSON.stringify({
  controlPlane: { cluster: "doorward" }, scope: "default", bodies: "stop-iteration",
  policyKeys: [{ id: "bench", publicKey: fixture.key }],
}));

let vm, requestHeaders = [], responseHeaders = [], buffer = configuration, denied = 0, nanos = BigInt(fixture.now) * 1_000_000_000n;
const calls = new Map();
const bytes = () => new Uint8Array(vm.memory.buffer);
const view = () => new DataView(vm.memory.buffer);
const text = (at, size) => Buffer.from(vm.memory.buffer, at, size).toString("latin1");
const headersOf = (map) => (map === 0 ? requestHeaders : responseHeaders);

function give(data, atPointer, atSize) {
  const at = data.length ? vm.proxy_on_memory_allocate(data.length) : 0;
  bytes().set(data, at);
  view().setUint32(atPointer, at, true);
  view().setUint32(atSize, data.length, true);
  return 0;
}

function pairs(headers) {
  const size = headers.reduce((sum, [name, value]) => sum + name.length + value.length + 10, 4);
  const out = Buffer.alloc(size);
  let at = out.writeUInt32LE(headers.length, 0);
  for (const [name, value] of headers) at = out.writeUInt32LE(value.length, out.writeUInt32LE(name.length, at));
  for (const [name, value] of headers) at += out.latin1Write(`${name}\0${value}\0`, at);
  return out;
}

const properties = { "source\0address": "10.0.0.7:41000", "xds\0node\0id": "bench", "xds\0node\0cluster": "bench" };
const env = {
  proxy_log: (level, at, size) => (level > 3 && console.error(text(at, size)), 0),
  proxy_get_current_time_nanoseconds: (at) => (view().setBigUint64(at, nanos, true), 0),
  proxy_set_tick_period_milliseconds: () => 0,
  proxy_get_buffer_bytes: (kind, start, max, data, size) => give(buffer.subarray(start, start + max), data, size),
  proxy_set_buffer_bytes: () => 0,
  proxy_get_header_map_pairs: (map, data, size) => give(pairs(headersOf(map)), data, size),
  proxy_set_header_map_pairs: () => 0,
  proxy_remove_header_map_value: () => 0,
  proxy_replace_header_map_value: () => 0,
  proxy_get_property: (at, length, data, size) => {
    const value = properties[text(at, length)];
    return value === undefined ? 1 : give(Buffer.from(value), data, size);
  },
  proxy_continue_stream: () => 0,
  proxy_close_stream: () => 0,
  proxy_send_local_response: () => ((denied += 1), 0),
  proxy_grpc_stream: (a, b, c, d, e, f, g, h, token) => (view().setUint32(token, 1, true), 0),
  proxy_grpc_send: () => 0,
  proxy_grpc_close: () => 0,
  proxy_set_effective_context: () => 0,
  proxy_call_foreign_function: () => 12,
  proxy_define_metric: (kind, at, size, metric) => (view().setUint32(metric, 1, true), 0),
  proxy_record_metric: () => 0,
  proxy_increment_metric: () => 0,
  proxy_get_shared_data: (at, length, data, size, cas) => {
    const entry = shared.get(text(at, length));
    if (!entry) return 1;
    view().setUint32(cas, entry.cas, true);
    return give(entry.value, data, size);
  },
  proxy_set_shared_data: (at, length, value, size) => {
    const key = text(at, length);
    const cas = (shared.get(key)?.cas ?? 0) + 1;
    shared.set(key, { value: Buffer.from(bytes().slice(value, value + size)), cas });
    return 0;
  },
};
const wasi = {
  fd_write: () => 8,
  environ_get: () => 0,
  environ_sizes_get: (count, size) => (view().setUint32(count, 0, true), view().setUint32(size, 0, true), 0),
  proc_exit: (code) => process.exit(code),
  random_get: (at, size) => (bytes().fill(7, at, at + size), 0),
  clock_time_get: (clock, precision, at) => (view().setBigUint64(at, nanos, true), 0),
};
let counting = false;
const counted = (functions) => Object.fromEntries(Object.entries(functions).map(([name, call]) => [name, (...given) => {
  if (counting) calls.set(name, (calls.get(name) ?? 0) + 1);
  return call(...given);
}]));
const load = (imports) => {
  vm = new WebAssembly.Instance(module, imports).exports;
  vm._initialize();
  vm.proxy_on_context_create(1, 0);
  vm.proxy_on_vm_start(1, 0);
  buffer = configuration;
  vm.proxy_on_configure(1, configuration.length);
  // Hand over a stream, so that records go out instead of filling the queue.
  vm.proxy_on_tick(1);
};
const module = new WebAssembly.Module(readFileSync(file));
// The SDK imports all of the ABI; what the filter never calls is "unimplemented" here.
for (const { module: origin, name } of WebAssembly.Module.imports(module)) if (origin === "env") env[name] ??= () => 12;
load({ env: counted(env), wasi_snapshot_preview1: counted(wasi) });

// The acknowledgement of everything so far: emitter (1), sequence (2).
function varint(value) {
  const out = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) | 128);
  return [...out, value];
}

let context = 100, sequence = 0;
function one() {
  context += 1;
  vm.proxy_on_context_create(context, 1);
  vm.proxy_on_request_headers(context, requestHeaders.length, 1);
  vm.proxy_on_response_headers(context, responseHeaders.length, 0);
  buffer = body;
  vm.proxy_on_response_body(context, body.length, 1);
  vm.proxy_on_done(context);
  vm.proxy_on_delete(context);
  if (++sequence % 200 === 0) acknowledge();
}
let emitter;
function acknowledge() {
  const name = Buffer.from(emitter);
  buffer = Buffer.from([10, name.length, ...name, 16, ...varint(sequence)]);
  vm.proxy_on_grpc_receive(1, 1, buffer.length);
  vm.proxy_on_tick(1);
}

// The records name their emitter: node/worker/boot, with the eight random bytes of this host.
emitter = `bench/1/${"07".repeat(8)}`;
for (const [name, path] of Object.entries(fixture.requests)) {
  requestHeaders = [
    [":authority", fixture.host], [":path", path], [":method", "GET"], [":scheme", "http"],
    ["authorization", `Bearer ${fixture.token}`], ["user-agent", "bench/1.0"], ["accept", "*/*"],
    ["x-forwarded-for", "10.0.0.7"], ["x-forwarded-proto", "http"], ["x-envoy-internal", "true"],
    ["x-request-id", "2d9a8a5e-6c2b-4a0e-9a63-2a7c5a4c7f11"],
  ];
  responseHeaders = [[":status", "200"], ["content-type", "application/json"], ["content-length", `${body.length}`]];
  one();
  counting = true;
  calls.clear();
  one();
  counting = false;
  const perRequest = [...calls].map(([call, count]) => `${call.replace("proxy_", "")}${count > 1 ? ` ×${count}` : ""}`);
  const samples = [];
  for (let number = 0; number < 3000; number += 1) one();
  const until = performance.now() + Number(seconds) * 1000;
  while (performance.now() < until) {
    // Processor time, because the machine may be shared.
    const start = process.cpuUsage();
    for (let number = 0; number < 500; number += 1) one();
    const used = process.cpuUsage(start);
    samples.push((used.user + used.system) / 500);
  }
  samples.sort((a, b) => a - b);
  const at = (part) => samples[Math.floor(samples.length * part)].toFixed(1);
  console.log(`${name}: ${at(0)} µs per request at best, ${at(0.5)} at the median; denied ${denied}`);
  console.log(`  calls into the host: ${perRequest.join(", ")}`);
}
