// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Migration

@Suite("The manifest")
struct StreamManifestTests {
  static func decode(_ bytes: [UInt8]) -> Result<StreamManifest, StreamManifest.Malformed> {
    do throws(StreamManifest.Malformed) {
      return .success(try StreamManifest(decoding: bytes.span))
    } catch {
      return .failure(error)
    }
  }

  static func reason(_ bytes: [UInt8]) -> String? {
    if case .failure(let malformed) = decode(bytes) { malformed.reason } else { nil }
  }

  static func u16(_ value: Int) -> [UInt8] { [UInt8(value & 0xff), UInt8(value >> 8 & 0xff)] }
  static func u32(_ value: Int) -> [UInt8] { u16(value & 0xffff) + u16(value >> 16) }

  /// A manifest of one device; each part can be another.
  static func manifest(
    count: Int = 1, reserved: Int = 0, length: Int? = nil, name: [UInt8] = Array("a".utf8), nameLength: Int? = nil,
    driver: [UInt8] = Array("d".utf8), driverLength: Int? = nil, tag: [UInt8] = [], tagLength: Int? = nil,
    more: [UInt8] = [], after: [UInt8] = []
  ) -> [UInt8] {
    var record = littleEndian(7)
    record += u16(nameLength ?? name.count) + name
    record += u16(driverLength ?? driver.count) + driver
    record += u32(tagLength ?? tag.count) + tag + more
    return u32(count) + u32(reserved) + u32(length ?? record.count) + record + after
  }

  @Test("what is written is read")
  func roundTrip() throws {
    let manifest = StreamManifest(devices: twoDevices)
    #expect(try Self.decode(manifest.encoded()).get() == manifest)
    #expect(try Self.decode(Self.manifest()).get().devices[0].features == [.stopCopy, .p2p, .preCopy])
  }

  @Test("cut after any of its bytes, or with one more, it is refused")
  func lengths() {
    let bytes = StreamManifest(devices: twoDevices).encoded()
    for count in 0..<bytes.count { #expect(Self.reason(Array(bytes[0..<count])) != nil, "\(count)") }
    #expect(Self.reason(bytes + [0])?.contains("1 bytes follow") == true)
  }

  @Test("fields that a newer minor version adds to a record are skipped")
  func newerFields() throws {
    #expect(try Self.decode(Self.manifest(more: [1, 2, 3, 4, 5])).get().devices.count == 1)
  }

  @Test("every count and length is checked against its cap and against what is there")
  func caps() {
    #expect(Self.reason(Self.manifest(count: 0))?.contains("claims 0 devices") == true)
    #expect(Self.reason(Self.manifest(count: 257))?.contains("claims 257 devices") == true)
    #expect(Self.reason(Self.manifest(count: 0xffff_ffff))?.contains("devices") == true)
    #expect(Self.reason(Self.manifest(count: 2))?.contains("cut short") == true)
    #expect(Self.reason(Self.manifest(reserved: 2))?.contains("its flags are 2") == true)
    #expect(Self.reason(Self.manifest(length: 131_073))?.contains("claims 131073 bytes") == true)
    #expect(Self.reason(Self.manifest(length: 0xffff_ffff))?.contains("claims") == true)
    #expect(Self.reason(Self.manifest(length: 9))?.contains("cut short") == true)
    #expect(Self.reason(Self.manifest(nameLength: 0xffff))?.contains("cut short") == true)
    #expect(Self.reason(Self.manifest(driverLength: 5))?.contains("cut short") == true)
    #expect(Self.reason(Self.manifest(tagLength: 1))?.contains("cut short") == true)
    #expect(Self.reason(Self.manifest(tagLength: 0xffff_ffff))?.contains("cut short") == true)
  }

  @Test("a record's fields do not reach into the next record")
  func recordBoundary() {
    let two = StreamManifest(devices: [twoDevices[0], twoDevices[0]]).encoded()
    var bytes = two
    // The first record's tag claims the four bytes of the second record's length.
    let tagAt = 12 + 8 + 2 + twoDevices[0].name.utf8.count + 2 + twoDevices[0].driver.utf8.count
    bytes[tagAt] = 4
    #expect(Self.reason(bytes)?.contains("cut short") == true)
  }

  @Test("names are printable ASCII of limited length, and tags are limited too")
  func texts() throws {
    func bytes(_ count: Int) -> [UInt8] { [UInt8](repeating: 0x61, count: count) }
    #expect(Self.reason(Self.manifest(name: bytes(255), driver: bytes(63), tag: bytes(65_536))) == nil)
    #expect(Self.reason(Self.manifest(name: bytes(256)))?.contains("at most 255") == true)
    #expect(Self.reason(Self.manifest(driver: bytes(64)))?.contains("at most 63") == true)
    #expect(Self.reason(Self.manifest(tag: bytes(65_537)))?.contains("65536") == true)
    #expect(Self.reason(Self.manifest(name: [0x61, 0x0a]))?.contains("printable") == true)
    #expect(Self.reason(Self.manifest(name: [0x1b, 0x5b]))?.contains("printable") == true)
    #expect(Self.reason(Self.manifest(driver: [0x7f]))?.contains("printable") == true)
    #expect(Self.reason(Self.manifest(name: [0xff, 0xfe]))?.contains("not text") == true)
    #expect(Self.reason(Self.manifest(name: [0xc3, 0xa4]))?.contains("printable") == true)
  }

  @Test("a malformed manifest is told with its frame")
  func inAStream() throws {
    let error = try #require(read([TestFrame(type: 1, payload: Self.manifest(reserved: 6))]).error)
    let what = "its flags are 6, which this program does not know: a newer vfio-ferry wrote it"
    #expect("\(error)" == "frame 0 (manifest) at byte 24: the manifest is malformed: \(what)")
  }

  @Test("256 devices are written and read, 257 are refused by the writing side too")
  func mostDevices() throws {
    let many = StreamManifest(devices: Array(repeating: twoDevices[0], count: 256))
    #expect(many.problem == nil)
    #expect(try Self.decode(many.encoded()).get() == many)
    #expect(StreamManifest(devices: many.devices + [twoDevices[0]]).problem != nil)
    #expect(StreamManifest(devices: []).problem != nil)
  }
}
