//! Memory for activations: aligned, and reused from one layer and one image to the next.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};

use crate::real::Real;

/// Cache-line alignment, so that no vector load of a row start crosses a line.
const ALIGN: usize = 64;
/// A huge page of x86-64. Buffers as long as one begin on one and ask the system for such pages: with ordinary ones,
/// reading packed weights misses the processor's page tables all the time.
const HUGE: usize = 2 << 20;

/// A fixed-length array aligned to 64 bytes.
pub struct Buffer<T: Real> {
    ptr: std::ptr::NonNull<T>,
    len: usize,
    capacity: usize,
}

// SAFETY: a Buffer owns its memory like a Vec does.
unsafe impl<T: Real> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Real> Sync for Buffer<T> {}

impl<T: Real> Buffer<T> {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let capacity = len.max(1);
        let layout = Self::layout(capacity);
        let raw = if layout.align() == HUGE {
            // SAFETY: the layout is not empty; the advice changes no contents, and the zeros stay inside.
            unsafe {
                let raw = alloc(layout);
                if !raw.is_null() {
                    #[cfg(target_os = "linux")]
                    libc::madvise(raw.cast(), layout.size(), libc::MADV_HUGEPAGE);
                    raw.write_bytes(0, layout.size());
                }
                raw.cast::<T>()
            }
        } else {
            // SAFETY: the layout is not empty; all-zero bytes are a valid f32 and f64.
            unsafe { alloc_zeroed(layout) }.cast::<T>()
        };
        let Some(ptr) = std::ptr::NonNull::new(raw) else { handle_alloc_error(layout) };
        Buffer { ptr, len, capacity }
    }

    /// The memory as bytes: whatever they hold is a number.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the values are initialised.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr().cast(), self.len * size_of::<T>()) }
    }

    /// [`Buffer::bytes`], to be written.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; every pattern of bits is a valid f32 and f64, and `&mut self` is unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr().cast(), self.len * size_of::<T>()) }
    }

    fn layout(capacity: usize) -> Layout {
        let align = if capacity * size_of::<T>() >= HUGE { HUGE } else { ALIGN };
        Layout::array::<T>(capacity).and_then(|l| l.align_to(align)).expect("a buffer fits the address space")
    }
}

impl<T: Real> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout.
        unsafe { dealloc(self.ptr.as_ptr().cast(), Self::layout(self.capacity)) }
    }
}

impl<T: Real> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `len ≤ capacity` initialised values are owned by self.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

impl<T: Real> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` is unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }
}

/// Free buffers of one thread. Taking one avoids the page faults of a fresh allocation,
/// which cost a fifth of a ViT's forward pass.
pub struct Pool<T: Real> {
    free: Vec<Buffer<T>>,
}

impl<T: Real> Default for Pool<T> {
    fn default() -> Self {
        Pool { free: Vec::new() }
    }
}

impl<T: Real> Pool<T> {
    /// `len` values left over from an earlier use: the caller overwrites every one.
    pub fn take(&mut self, len: usize) -> Buffer<T> {
        let fits = |b: &Buffer<T>| b.capacity >= len && b.capacity <= 2 * len + 1024;
        let best = (0..self.free.len())
            .filter(|&i| fits(&self.free[i]))
            .min_by_key(|&i| (self.free[i].capacity, std::cmp::Reverse(i)));
        match best {
            Some(i) => {
                let mut buffer = self.free.swap_remove(i);
                buffer.len = len;
                buffer
            }
            None => Buffer::zeroed(len),
        }
    }

    /// `len` zeros.
    pub fn take_zeroed(&mut self, len: usize) -> Buffer<T> {
        let mut buffer = self.take(len);
        buffer.fill(T::ZERO);
        buffer
    }

    /// Returns a buffer for later use.
    pub fn give(&mut self, buffer: Buffer<T>) {
        self.free.push(buffer);
    }
}
