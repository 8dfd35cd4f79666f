// SPDX-License-Identifier: Apache-2.0
import CVFIO
import Engine
import Glibc
import LinuxIO
import Migration
import Testing

@Suite("Words that are shared with another process", .serialized)
struct SharedWordsTests {
  static let name = "words-under-test"

  private func descriptors() -> Int {
    Files.names(in: "/proc/self/fd").count { number in
      Files.link("/proc/self/fd/\(number)")?.contains(Self.name) == true
    }
  }

  private func mappings() throws -> Int {
    try Files.readText("/proc/self/maps").split(separator: "\n").count { $0.contains(Self.name) }
  }

  /// What another process would read from a descriptor that it was given.
  private func word(_ index: Int, of file: borrowing Descriptor) throws -> UInt64 {
    var bytes = [UInt8](repeating: 0, count: 8)
    var span = bytes.mutableSpan
    let count = try file.read(into: &span, at: index * 8)
    #expect(count == 8)
    return bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  @Test("they are zero at first, and take no memory until they are written")
  func lazy() throws {
    var words = try SharedWords(count: 1 << 27, name: Self.name)
    let file = try words.duplicateDescriptor()
    var status = stat()
    #expect(unsafe fstat(file.rawValue, &status) == 0)
    #expect(status.st_size == 1 << 30)
    #expect(status.st_blocks == 0)
    words.withMutableWords { $0[(1 << 27) - 1] = 7 }
    #expect(words.withWords { $0[0] } == 0)
    #expect(try word((1 << 27) - 1, of: file) == 7)
    // At most a huge page for each of the two that were touched.
    #expect(unsafe fstat(file.rawValue, &status) == 0)
    #expect(status.st_blocks * 512 <= 4 << 20)
  }

  @Test("locked they are in memory, all of them, and a bitmap in them says where they are; unlocked it doesn't")
  func locked() throws {
    var words = try SharedWords(count: 1 << 17, name: Self.name)
    let file = try words.duplicateDescriptor()
    var status = stat()
    let before = words.lockedAddress
    #expect(before == nil)
    let (isLocked, isStillLocked) = (words.lock(), words.lock())
    #expect(isLocked && isStillLocked)
    #expect(unsafe fstat(file.rawValue, &status) == 0)
    #expect(status.st_blocks * 512 == 1 << 20)
    let place = words.lockedAddress
    let address = try #require(place)
    unsafe UnsafeMutablePointer<UInt64>(bitPattern: UInt(address))?[5] = 3
    #expect(words.withWords { $0[5] } == 3)
  }

  @Test("they are locked only by who may lock as much again: the answers of trackers need it")
  func limit() async {
    await #expect(processExitsWith: .success) {
      // Without the right to lock as much as one likes.
      if geteuid() == 0, setuid(65_534) != 0 { exit(3) }
      let bytes = 1 << 17
      for (limit, isPossible) in [(bytes, false), (2 * bytes - 4096, false), (2 * bytes, true)] {
        var words = try SharedWords(count: bytes / 8, name: "words-under-test")
        var limits = rlimit(rlim_cur: rlim_t(limit), rlim_max: rlim_t(2 * bytes))
        if unsafe setrlimit(__rlimit_resource_t(__RLIMIT_MEMLOCK.rawValue), &limits) != 0 { exit(4) }
        if words.lock() != isPossible || (words.lockedAddress != nil) != isPossible { exit(5) }
      }
      exit(0)
    }
  }

  @Test("nobody can change the size or the seals, not by a duplicate either")
  func sealed() throws {
    let words = try SharedWords(count: 1024, name: Self.name)
    let file = try words.duplicateDescriptor()
    for size in [0, 4096, 8191, 8193, 1 << 20] {
      let result = ftruncate(file.rawValue, size)
      let error = errno
      #expect(result == -1 && error == EPERM, "\(size) bytes")
    }
    // Writing after the end would make it grow.
    #expect(throws: SystemError.self) { try file.writeAll([1, 2, 3].span, at: 8192) }
    let resealed = vf_seal_size(file.rawValue)
    let error = errno
    #expect(resealed == -1 && error == EPERM)
    // Opened anew it is the same file.
    let again = try Descriptor.open("/proc/self/fd/\(file.rawValue)", O_RDWR)
    let result = ftruncate(again.rawValue, 0)
    let anewError = errno
    #expect(result == -1 && anewError == EPERM)
  }

  @Test("another mapping of a duplicate sees what is written, and what it writes is seen")
  func shared() throws {
    var words = try SharedWords(count: 1024, name: Self.name)
    let file = try words.duplicateDescriptor()
    let other = unsafe mmap(nil, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, 0)
    try #require(unsafe other != MAP_FAILED)
    defer { unsafe munmap(other, 8192) }
    let theirs = unsafe other!.assumingMemoryBound(to: UInt64.self)
    words.withMutableWords { $0[1023] = 0x0123_4567_89ab_cdef }
    #expect(unsafe theirs[1023] == 0x0123_4567_89ab_cdef)
    unsafe theirs[17] = 5
    #expect(words.withWords { $0[17] } == 5)
  }

  @Test("a bitmap in them is what another process finds at the places that the layout says")
  func bitmap() throws {
    let layout = try DirtyLayout(ranges: [0x3000..<0xa0000, 1 << 40..<1 << 40 + 4096], pageSize: 4096)
    var bitmap = try DirtyBitmap(sharing: layout)
    try bitmap.mark(0x3000..<0x5000)
    try bitmap.mark(1 << 40)
    let file = try bitmap.duplicateDescriptor()
    let words = bitmap.words()
    #expect(try word(0, of: file) == 3)
    #expect(try word(layout.parts[1].firstWord, of: file) == 1)
    // The other process changes something and hands it back.
    try file.writeAll([0x80, 0, 0, 0, 0, 0, 0, 0].span, at: 0)
    let back = try DirtyBitmap(layout: layout, words: words)
    var runs: [Range<UInt64>] = []
    back.forEachRun {
      runs.append($0)
      return true
    }
    let expected: [Range<UInt64>] = [0xa000..<0xb000, 1 << 40..<1 << 40 + 4096]
    #expect(runs == expected)
  }

  @Test("nothing stays open or mapped, whether it works or not")
  func leaks() throws {
    #expect(descriptors() == 0)
    do {
      let words = try SharedWords(count: 1024, name: Self.name)
      let file = try words.duplicateDescriptor()
      #expect(descriptors() == 2 && file.rawValue >= 0)
      #expect(try mappings() == 1)
      #expect(fcntl(file.rawValue, F_GETFD) & FD_CLOEXEC != 0)
    }
    for count in [-1, 0, Int.max, Int.max / 8, 1 << 58] {
      #expect(throws: SystemError.self, "\(count) words") { _ = try SharedWords(count: count, name: Self.name) }
    }
    let layout = try DirtyLayout(ranges: [0..<1 << 20], pageSize: 4096)
    #expect(throws: DirtyBitmapError.wordCount(5, needed: 4)) {
      _ = try DirtyBitmap(layout: layout, words: try SharedWords(count: 5, name: Self.name))
    }
    #expect(descriptors() == 0)
    #expect(try mappings() == 0)
  }
}
