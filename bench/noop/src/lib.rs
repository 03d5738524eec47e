//! A Proxy-Wasm filter that does nothing: the floor under every figure of the side-by-side benchmark.
//!
//! It is called once for the request's head and once for the response's, and lets both pass without reading anything.
#![allow(unsafe_code, reason = "exports of the ABI")]

#[cfg(target_arch = "wasm32")]
mod exports {
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_abi_version_0_2_1() {}

    #[unsafe(no_mangle)]
    extern "C" fn _initialize() {
        // SAFETY: the linker's constructor list; the host calls `_initialize` once, before anything else.
        unsafe { __wasm_call_ctors() };
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
        match core::alloc::Layout::array::<u8>(size) {
            // SAFETY: the layout is not empty.
            Ok(layout) if size > 0 => unsafe { std::alloc::alloc(layout) },
            _ => core::ptr::null_mut(),
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_context_create(_context: u32, _parent: u32) {}

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_vm_start(_root: u32, _size: usize) -> u32 {
        1
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_configure(_root: u32, _size: usize) -> u32 {
        1
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_request_headers(_context: u32, _count: u32, _end_of_stream: u32) -> u32 {
        0
    }

    #[unsafe(no_mangle)]
    extern "C" fn proxy_on_response_headers(_context: u32, _count: u32, _end_of_stream: u32) -> u32 {
        0
    }
}
