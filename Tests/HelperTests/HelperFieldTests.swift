// SPDX-License-Identifier: Apache-2.0
import CVFIO
import LinuxIO
import Migration
import Testing

@testable import Helper

@Suite("What a VMM may write into a request")
struct HelperFieldTests {
  /// The code with which a packet is refused; nil where it is taken.
  private func refusal<Structure: BitwiseCopyable>(
    _ type: Int, descriptors: Int = 0, _ structure: Structure
  ) -> HelperCode? {
    let bytes = HelperPacket.bytes(structure, type: UInt32(type), number: 1, descriptors: descriptors)
    do throws(HelperPacketError) {
      _ = try HelperPacket.request(bytes.span, descriptors: descriptors)
      return nil
    } catch {
      #expect(error.number == 1 && error.type == UInt32(type))
      return error.failure.code
    }
  }

  private func name(_ text: String) -> vfio_ferry_device_add {
    var add = vfio_ferry_device_add()
    add.device = 1
    add.space = 1
    add.tracker = UInt32(VFIO_FERRY_TRACKER_AUTO)
    add.name = WireField.characters(text)
    return add
  }

  private func add(_ change: (inout vfio_ferry_device_add) -> Void) -> HelperCode? {
    var add = name("0000:17:00.2")
    change(&add)
    let flags = Int(add.flags)
    let both = VFIO_FERRY_DEVICE_HAS_IOMMUFD | VFIO_FERRY_DEVICE_HAS_CONTAINER
    return refusal(VFIO_FERRY_DEVICE_ADD, descriptors: flags & both != 0 ? 2 : 1, add)
  }

  @Test("a device has a number from 1 to 2^31 - 1, a space, a known tracker, and log limits in order")
  func device() {
    #expect(add { $0.device = 0x7fff_ffff } == nil)
    for device: UInt32 in [0, 0x8000_0000, .max] { #expect(add { $0.device = device } == .badArgument) }
    #expect(add { $0.space = 0 } == .badArgument)
    for tracker: UInt32 in [0, 6, .max] { #expect(add { $0.tracker = tracker } == .badArgument) }
    func log(_ first: UInt64, _ last: UInt64) -> HelperCode? {
      add {
        $0.log_first = first
        $0.log_last = last
      }
    }
    #expect(log(0, 4095) == nil && log(4096, .max) == nil)
    for (first, last): (UInt64, UInt64) in [(0, 4096), (1, 4095), (8192, 4095), (4096, 4095), (0, .max - 1)] {
      #expect(log(first, last) == .badArgument, "\(first) to \(last)")
    }
  }

  @Test("flags that exclude each other, mean nothing alone or have no name are refused, and so is what needs a flag")
  func flags() {
    let iommufd = UInt32(VFIO_FERRY_DEVICE_HAS_IOMMUFD)
    let container = UInt32(VFIO_FERRY_DEVICE_HAS_CONTAINER)
    let number = UInt32(VFIO_FERRY_DEVICE_HAS_NUMBER)
    let table = UInt32(VFIO_FERRY_DEVICE_HAS_PAGE_TABLE)
    for flags in [0, iommufd, container, iommufd | number, iommufd | table, iommufd | number | table] {
      #expect(add { $0.flags = flags } == nil)
    }
    for flags in [iommufd | container, number, table, container | number, container | table, 1 << 4, 1 << 31] {
      #expect(add { $0.flags = flags } == .badArgument)
    }
    #expect(add { $0.number = 1 } == .badArgument)
    #expect(add { $0.page_table = 1 } == .badArgument)
  }

  @Test(
    "a device's name is one that sysfs has",
    arguments: ["0000:17:00.2", "10000:e1:1f.7", WireSamples.uuid])
  func names(text: String) {
    #expect(refusal(VFIO_FERRY_DEVICE_ADD, descriptors: 1, name(text)) == nil)
  }

  @Test(
    "nothing else is a device's name",
    arguments: ["", "17:00.2", "0000:17:00.A", "0000:E1:00.2", "../../etc", "x\u{7f}"])
  func badNames(text: String) {
    #expect(refusal(VFIO_FERRY_DEVICE_ADD, descriptors: 1, name(text)) == .badArgument)
  }

  @Test("a name ends with zeros, is UTF-8 and has no control characters")
  func texts() {
    func hello(_ bytes: [UInt8]) -> HelperCode? {
      var hello = vfio_ferry_hello()
      hello.major = 1
      hello.version = (bytes + [UInt8](repeating: 0, count: 64)).span.load()
      return refusal(VFIO_FERRY_HELLO, hello)
    }
    #expect(hello([UInt8](repeating: 65, count: 63)) == nil)
    #expect(hello([UInt8](repeating: 65, count: 64)) == .badPacket)
    #expect(hello([65, 0, 65]) == .badPacket)
    #expect(hello([0, 0, 1]) == .badPacket)
    for bytes: [UInt8] in [[0xff], [0xc3], [0xed, 0xa0, 0x80], [10], [27], [0x7f], [0xc2, 0x9b]] {
      #expect(hello(bytes) == .badArgument, "\(bytes)")
    }
  }

  @Test("the limits in a HELLO are the helper's to say; another major version is told apart from a mistake")
  func hello() {
    for field in [\vfio_ferry_hello.max_devices, \.max_memory, \.max_mappings, \.max_blob] {
      var hello = vfio_ferry_hello()
      hello.major = UInt32(VFIO_FERRY_VERSION_MAJOR)
      hello[keyPath: field] = 1
      #expect(refusal(VFIO_FERRY_HELLO, hello) == .badArgument)
      hello.major += 1
      #expect(refusal(VFIO_FERRY_HELLO, hello) == .version)
    }
    struct Larger { var hello = vfio_ferry_hello(), more: UInt64 = 0 }
    var larger = Larger()
    larger.hello.major = 2
    #expect(refusal(VFIO_FERRY_HELLO, larger) == .version)
    larger.hello.major = UInt32(VFIO_FERRY_VERSION_MAJOR)
    #expect(refusal(VFIO_FERRY_HELLO, larger) == .badPacket)
    #expect(refusal(VFIO_FERRY_HELLO, vfio_ferry_header()) == .badPacket)
  }

  @Test("ranges are multiples of 4096, not empty, and end below 2^64")
  func ranges() {
    func mapping(_ address: UInt64, _ size: UInt64, _ guest: UInt64) -> HelperCode? {
      refusal(
        VFIO_FERRY_MAP_ADD,
        vfio_ferry_mapping(
          header: vfio_ferry_header(), space: 1, reserved: 0, address: address, size: size, guest: guest))
    }
    func memory(_ guest: UInt64, _ size: UInt64, _ address: UInt64, _ offset: UInt64) -> HelperCode? {
      let flags = UInt32(VFIO_FERRY_MEMORY_HAS_FILE | VFIO_FERRY_MEMORY_IS_MAPPED)
      return refusal(
        VFIO_FERRY_MEMORY_ADD, descriptors: 1,
        vfio_ferry_memory(
          header: vfio_ferry_header(), flags: flags, space: 1, guest: guest, size: size, address: address,
          offset: offset))
    }
    let last = UInt64.max - 8191
    #expect(mapping(last, 4096, 0) == nil && mapping(0, 4096, last) == nil && mapping(0, last, 4096) == nil)
    #expect(memory(last, 4096, 0, 0) == nil && memory(0, 4096, last, 0) == nil && memory(0, 4096, 0, 1 << 62) == nil)
    for (address, size, guest) in [
      (0, 0, 0), (1, 4096, 0), (0, 4095, 0), (0, 4097, 0), (0, 4096, 2048), (last + 4096, 4096, 0),
      (0, 4096, last + 4096), (4096, .max - 4095, 0), (0, .max, 0), (8192, last, 0), (0, last, 8192),
    ] as [(UInt64, UInt64, UInt64)] {
      #expect(mapping(address, size, guest) == .badArgument, "\(address), \(size), \(guest)")
      #expect(memory(guest, size, address, 0) == .badArgument, "\(address), \(size), \(guest)")
    }
    for offset: UInt64 in [1, 2048, 1 << 63, 1 << 63 - 4096, .max - 4095] {
      #expect(memory(0, 8192, 0, offset) == .badArgument, "\(offset)")
    }
    var reserved = vfio_ferry_mapping()
    reserved.reserved = 1
    #expect(refusal(VFIO_FERRY_MAP_REMOVE, reserved) == .badPacket)
  }

  @Test("what a range of memory says belongs to its flags")
  func memory() {
    func memory(_ flags: Int, space: UInt32 = 0, address: UInt64 = 0, offset: UInt64 = 0) -> HelperCode? {
      refusal(
        VFIO_FERRY_MEMORY_ADD, descriptors: flags & VFIO_FERRY_MEMORY_HAS_FILE,
        vfio_ferry_memory(
          header: vfio_ferry_header(), flags: UInt32(flags), space: space, guest: 0, size: 4096, address: address,
          offset: offset))
    }
    let (file, mapped) = (VFIO_FERRY_MEMORY_HAS_FILE, VFIO_FERRY_MEMORY_IS_MAPPED)
    #expect(memory(0) == nil && memory(file, offset: 4096) == nil && memory(mapped, space: 1, address: 4096) == nil)
    #expect(memory(0, space: 1) == .badArgument && memory(0, address: 4096) == .badArgument)
    #expect(memory(0, offset: 4096) == .badArgument && memory(mapped) == .badArgument && memory(4) == .badArgument)
  }

  @Test("a page size is a power of two from 4096 to 1 GiB")
  func pageSizes() {
    func tracking(_ size: UInt64) -> HelperCode? {
      refusal(VFIO_FERRY_TRACKING_START, vfio_ferry_tracking(header: vfio_ferry_header(), page_size: size))
    }
    for shift in 12...30 { #expect(tracking(1 << UInt64(shift)) == nil) }
    for size: UInt64 in [0, 1, 2048, 4095, 4097, 12288, 1 << 31, 1 << 63, .max] {
      #expect(tracking(size) == .badArgument)
    }
  }

  @Test("a blob has its cap, and lies where a file can have it")
  func blobs() {
    func blob(_ size: UInt32, _ offset: UInt64) -> HelperCode? {
      refusal(
        VFIO_FERRY_DEVICE_BLOB, descriptors: 1,
        vfio_ferry_blob(header: vfio_ferry_header(), device: 1, size: size, offset: offset))
    }
    let most = UInt32(VFIO_FERRY_MAX_BLOB)
    #expect(blob(most, 0) == nil && blob(1, 1 << 63 - 2) == nil)
    #expect(blob(most + 1, 0) == .limit && blob(.max, .max) == .limit)
    #expect(blob(1, 1 << 63 - 1) == .badArgument && blob(1, .max) == .badArgument && blob(0, 1 << 63) == .badArgument)
  }

  @Test("a tag has its cap, too, which is what a tag's text may have, and lies where a file can have it")
  func tags() {
    func tag(_ size: UInt32, _ offset: UInt64) -> HelperCode? {
      refusal(
        VFIO_FERRY_DEVICE_TAG, descriptors: 1,
        vfio_ferry_tag(header: vfio_ferry_header(), device: 1, size: size, offset: offset))
    }
    let most = UInt32(VFIO_FERRY_MAX_TAG)
    #expect(Int(most) == CompatibilityTag.maximumSize)
    #expect(tag(most, 0) == nil && tag(1, 1 << 63 - 2) == nil)
    #expect(tag(most + 1, 0) == .limit && tag(.max, .max) == .limit)
    #expect(tag(1, 1 << 63 - 1) == .badArgument && tag(1, .max) == .badArgument && tag(0, 1 << 63) == .badArgument)
    var bare = vfio_ferry_tag(header: vfio_ferry_header(), device: 1, size: 1, offset: 0)
    #expect(refusal(VFIO_FERRY_DEVICE_TAG, bare) == .badPacket, "without its file")
    bare.device = 0
    #expect(refusal(VFIO_FERRY_DEVICE_TAG, descriptors: 1, bare) == .badArgument)
  }

  @Test("a save has its enumerator, pages that go one way, and times of no more than a day")
  func saves() {
    func save(_ change: (inout vfio_ferry_save) -> Void) -> HelperCode? {
      var save = vfio_ferry_save()
      save.last_resort = UInt32(VFIO_FERRY_RESORT_FORCE)
      change(&save)
      return refusal(VFIO_FERRY_SAVE_BEGIN, descriptors: 1, save)
    }
    let day: UInt64 = 24 * 60 * 60 * 1_000_000
    #expect(UInt64(VFIO_FERRY_MAX_TIME) == day)
    #expect(save { _ in } == nil)
    for resort: UInt32 in [0, 3] { #expect(save { $0.last_resort = resort } == .badArgument) }
    let both = UInt32(VFIO_FERRY_SAVE_PAGES_BY_HELPER | VFIO_FERRY_SAVE_PAGES_BY_VMM)
    for flags in [both, 1 << 5, 1 << 31] { #expect(save { $0.flags = flags } == .badArgument) }
    for field in [\vfio_ferry_save.downtime_us, \.interval_us, \.quiescing_us, \.loading_us, \.step_us] {
      #expect(save { $0[keyPath: field] = day } == nil)
      for time: UInt64 in [day + 1, .max - 1] { #expect(save { $0[keyPath: field] = time } == .badArgument) }
    }
    for field in [\vfio_ferry_save.quiescing_us, \.loading_us] { #expect(save { $0[keyPath: field] = .max } == nil) }
    #expect(save { $0.flags = UInt32(VFIO_FERRY_SAVE_PAGES_BY_HELPER) } == .badPacket, "the second descriptor")
  }

  @Test("links and states are known, and devices differ")
  func links() {
    func link(_ from: UInt32, _ to: UInt32, _ link: UInt32, _ reserved: UInt32 = 0) -> HelperCode? {
      refusal(
        VFIO_FERRY_DEVICE_LINK,
        vfio_ferry_device_link(header: vfio_ferry_header(), from: from, to: to, link: link, reserved: reserved))
    }
    #expect(link(1, 2, 1) == nil && link(1, 2, 1, 1) == .badPacket)
    for (from, to, kind) in [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 2, 0), (1, 2, 3)] as [(UInt32, UInt32, UInt32)] {
      #expect(link(from, to, kind) == .badArgument)
    }
    for state: UInt32 in [0, 9, 255] {
      let arc = vfio_ferry_device_arc(header: vfio_ferry_header(), device: 1, state: state)
      #expect(refusal(VFIO_FERRY_DEVICE_ARC, arc) == .badArgument)
    }
  }

  @Test("a request that is not known is refused without an end, whatever else is in it")
  func unknown() {
    for type in [0, 11, 15, 59, VFIO_FERRY_REPLY + 1, VFIO_FERRY_ERROR, VFIO_FERRY_EVENT_PHASE, 0xffff_ffff] {
      #expect(refusal(type, vfio_ferry_header()) == .unknownRequest)
      #expect(refusal(type, descriptors: 2, vfio_ferry_error()) == .unknownRequest)
    }
    let zero = HelperPacket.bytes(vfio_ferry_header(), type: UInt32(VFIO_FERRY_STATUS), number: 0, descriptors: 0)
    let thrown = #expect(throws: HelperPacketError.self) { _ = try HelperPacket.request(zero.span, descriptors: 0) }
    #expect(thrown?.hangsUp == true)
  }

  @Test("a long text is cut between characters, and what could harm a terminal becomes a space")
  func cut() {
    func sent(_ text: String) -> String? {
      let bytes = HelperReply.failure(HelperFailure(.refused, text)).packet(to: 2, number: 1)
      guard case .reply(_, _, .failure(let failure))? = try? HelperPacket.message(bytes.span, descriptors: 0) else {
        return nil
      }
      return failure.text
    }
    let long = String(repeating: "a", count: 254)
    #expect(sent(long + "bc") == long + "b")
    #expect(sent(long + "ü") == long)
    #expect(sent(String(repeating: "😀", count: 70)) == String(repeating: "😀", count: 63))
    #expect(sent("a\0b\nc\u{1b}[31m") == "a b c [31m")
    let reply = HelperReply.failure(HelperFailure(.unknownRequest, "")).packet(to: .max, number: .max)
    #expect((try? HelperPacket.message(reply.span, descriptors: 0)) != nil)
  }
}
