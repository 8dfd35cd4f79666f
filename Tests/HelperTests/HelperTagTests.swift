// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import LinuxIO
import Migration
import Synchronization
import Testing

@testable import Helper

@Suite("What a VMM hands over of a device's tag", .serialized)
struct HelperTagTests {
  private typealias Bench = HelperSessionBench

  private static let request = HelperRequest.tag(device: 1, offset: 0, size: 1)

  // MARK: The session

  @Test("a device has one tag: a second is refused, and one that was not taken is none")
  func once() {
    var bench = Bench(devices: [1, 2])
    let first = bench.ask(Self.request)
    #expect(bench.actions == [.perform(first, .takeTag(1, offset: 0, size: 1))])
    #expect(bench.refusal(Self.request)?.code == .exists)
    bench.finish(first, .failure(HelperFailure(.badArgument, device: 1, "line 2")))
    let second = bench.ask(Self.request)
    #expect(bench.failure(second) == nil)
    bench.finish(second)
    #expect(bench.reply(second) == .done)
    let refusal = bench.refusal(Self.request)
    #expect(refusal?.code == .exists && refusal?.device == 1 && refusal?.text.contains("remove it") == true)
    #expect(bench.refusal(.tag(device: 2, offset: 0, size: 1)) == nil)
    #expect(bench.refusal(.tag(device: 3, offset: 0, size: 1))?.code == .noSuch)
  }

  @Test("a device that is added anew has none, and what becomes of the old one's is not about it")
  func anew() {
    var bench = Bench(devices: [1])
    let first = bench.ask(Self.request)
    bench.ask(.removeDevice(1))
    bench.add(1)
    let second = bench.ask(Self.request)
    #expect(bench.failure(second) == nil)
    bench.finish(first, .failure(HelperFailure(.noSuch, device: 1, "gone")))
    #expect(bench.failure(first)?.code == .noSuch && bench.refusal(Self.request)?.code == .exists)
  }

  @Test("a tag stays with its device after an abort, and one that comes when a move has begun is refused")
  func late() {
    for phase in [HelperPhase.preCopy, .loading] {
      var bench = Bench.at(phase)
      let refusal = bench.refusal(Self.request)
      #expect(refusal?.code == .wrongPhase && refusal?.text.contains("before the move") == true)
    }
    var bench = Bench(devices: [1])
    bench.finish(bench.ask(Self.request))
    bench.finish(bench.ask(.beginSave(Bench.save())))
    bench.ask(.abort)
    bench.feed(.sessionEnded(bench.outcome(.running, fault: .interrupted("the VMM aborts"))))
    #expect(bench.session.phase == .setup && bench.refusal(Self.request)?.code == .exists)
  }

  @Test("a VMM that speaks version 1.0 has no such request, and is told of no differences")
  func older() throws {
    var bench = Bench(greeted: false)
    bench.ask(.hello(major: 1, minor: 0, features: [], version: "old"))
    bench.add(1)
    #expect(bench.refusal(Self.request)?.code == .unknownRequest && !bench.session.knowsTags)
    #expect(Bench(devices: [1]).session.knowsTags)
  }

  // MARK: The whole

  /// What the helper finds out by itself.
  private static func found() -> CompatibilityTag {
    var tag = CompatibilityTag()
    (tag[.vendor], tag[.device], tag[.driver]) = ("15b3", "101e", "mlx5_vfio_pci")
    (tag[.features], tag[.kernel]) = ("stop-copy p2p pre-copy", "6.12.30")
    return tag
  }

  private static func device(_ image: [UInt8] = []) -> FakeDevice {
    FakeDevice("0000:00:01.0", features: [.stopCopy, .p2p, .preCopy], image: image, script: Script())
  }

  private static func give(_ text: [UInt8], to vmm: TestVMM, offset: Int = 0) throws -> HelperReply {
    let file = SentFile(try Descriptor.inMemory(name: "a tag"))
    try file.descriptor.writeAll(text.span, at: offset)
    return try vmm.ask(.tag(device: 1, offset: UInt64(offset), size: UInt32(text.count)), file)
  }

  private static func failure(_ text: [UInt8], to vmm: TestVMM) throws -> HelperFailure {
    guard case .failure(let failure) = try give(text, to: vmm) else { throw TestVMM.Gone() }
    return failure
  }

  @Test("a tag that is none, of another version, too long or not whole is refused in words, and a right one taken then")
  func malformed() throws {
    let vmm = try HelperServerTests.vmm([Self.device()], tag: Self.found())
    let header = "vfio-ferry-tag 1\n"
    let wrong: [(String, HelperCode, String)] = [
      ("", .badArgument, "no compatibility tag"), ("mac 1\n", .badArgument, "no compatibility tag"),
      ("vfio-ferry-tag 2\n", .badArgument, "another vfio-ferry wrote it"),
      (header + "mac", .badArgument, "line 2"), (header + "vlan 1\nmac 1\n", .badArgument, "line 3"),
      (header + "mac \u{1b}[31m\n", .badArgument, "line 2"),
      (header + String(repeating: "a b\n", count: 65), .limit, "more than 64 fields"),
      (String(repeating: "x", count: 32_768), .badArgument, "no compatibility tag"),
    ]
    for (text, code, words) in wrong {
      let failure = try Self.failure(Array(text.utf8), to: vmm)
      let isRight = failure.code == code && failure.device == 1 && failure.text.contains(words)
      #expect(isRight, "\(text.prefix(40)): \(failure)")
    }
    let short = SentFile(try Descriptor.inMemory(name: "a tag"))
    let fields = (1...63).map { String(repeating: "z", count: $0) + " 1\n" }
    let together = try Self.failure(Array((header + fields.joined()).utf8), to: vmm)
    #expect(together.code == .limit && together.text.contains("with what was found out here"), "\(together)")
    for (request, code) in [
      (HelperRequest.tag(device: 1, offset: 0, size: 1), HelperCode.badArgument),
      (.tag(device: 1, offset: 0, size: 32_769), .limit), (.tag(device: 2, offset: 0, size: 1), .noSuch),
    ] {
      guard case .failure(let failure) = try vmm.ask(request, short) else { throw TestVMM.Gone() }
      #expect(failure.code == code, "\(failure)")
    }
    var tag = Self.found()
    tag[.mac] = "02:00:00:00:00:01"
    #expect(try Self.give(tag.encoded, to: vmm, offset: 77) == .done)
    #expect(try Self.failure(tag.encoded, to: vmm).code == .exists)
    vmm.hangUp()
    #expect(vmm.ending()?.status == 0)
  }

  @Test("more of the largest tags than a stream's manifest has room for are refused before anything is touched")
  func many() throws {
    let devices = (0..<128).map { index in
      FakeDevice(
        "0000:01:\(index < 80 ? "0" : "1")\(index / 8 % 10).\(index % 8)", features: [.stopCopy, .p2p, .preCopy],
        image: [], script: Script())
    }
    let vmm = try HelperServerTests.vmm(devices, tag: Self.found())
    // As much as there is room for beside what was found out.
    let header = Array("vfio-ferry-tag 1\n".utf8)
    let size = CompatibilityTag.maximumSize - Self.found().encoded.count + header.count
    var text = header
    for count in 1...32 {
      let name = String(repeating: "z", count: count) + " "
      let value = String(repeating: "v", count: min(1013, size - text.count - name.utf8.count - 1))
      text += Array("\(name)\(value)\n".utf8)
    }
    #expect(text.count == size)
    let file = SentFile(try Descriptor.inMemory(name: "a tag"))
    try file.descriptor.writeAll(text.span, at: 0)
    for id in 1...128 {
      #expect(try vmm.ask(.tag(device: UInt32(id), offset: 0, size: UInt32(text.count)), file) == .done)
    }
    let stream = SentFile(try Descriptor.inMemory(name: "a stream"))
    for request in [HelperRequest.beginSave(Bench.save()), .beginLoad(Bench.load)] {
      guard case .failure(let failure) = try vmm.ask(request, stream) else { throw TestVMM.Gone() }
      #expect(failure.code == .refused && failure.text.contains("longer than 4194304 bytes"), "\(failure)")
    }
    #expect(devices.allSatisfy { $0.state == .running })
    vmm.hangUp()
    _ = vmm.ending()
  }

  @Test("a tag that comes right behind its device is taken when that is, and refused where that is")
  func behind() throws {
    let vmm = try TestVMM([Self.device()], tag: Self.found().encoded)
    _ = try vmm.ask(.hello(major: 1, minor: 1, features: [], version: "test"))
    let file = SentFile(try Descriptor.inMemory(name: "a tag"))
    try file.descriptor.writeAll(Self.found().encoded.span, at: 0)
    for (device, isThere) in [(Bench.device(2), false), (Bench.device(1), true)] {
      let size = UInt32(Self.found().encoded.count)
      let added = try vmm.send(.addDevice(device), file)
      let tagged = try vmm.send(.tag(device: device.device, offset: 0, size: size), file)
      let (first, second) = (try vmm.reply(to: added), try vmm.reply(to: tagged))
      guard !isThere else {
        #expect(second == .done, "\(first)")
        continue
      }
      guard case .failure(let why) = first, case .failure(let failure) = second else { throw TestVMM.Gone() }
      #expect(why.code == .noSuch && failure.code == .noSuch && failure.device == 2)
    }
    vmm.hangUp()
    _ = vmm.ending()
  }

  @Test("a tag of another device, or of this one as it was, is refused, and the field is named")
  func contradictions() throws {
    let vmm = try HelperServerTests.vmm([Self.device()], tag: Self.found())
    for field in [TagField.vendor, .device, .driver, .kernel] {
      var tag = Self.found()
      tag[field] = "other"
      let failure = try Self.failure(tag.encoded, to: vmm)
      #expect(
        failure.code == .refused && failure.device == 1
          && failure.text.contains("not one of 0000:00:01.0 as it is now: it says \(field.rawValue) other, and here"),
        "\(failure)")
    }
    var tag = Self.found()
    tag[.mediatedType] = "mtty-2"
    let failure = try Self.failure(tag.encoded, to: vmm)
    #expect(failure.code == .refused && failure.text.contains("says mdev_type mtty-2, and here there is none"))
    vmm.hangUp()
  }

  /// What happens when both sides were told these.
  private static func load(_ source: [(TagField, String)]?, _ destination: [(TagField, String)]?) throws -> (
    TestVMM, FakeDevice
  ) {
    let there = device()
    let (from, to) = (
      try HelperServerTests.vmm([device([1, 2, 3])], tag: found()), try HelperServerTests.vmm([there], tag: found())
    )
    for (vmm, fields) in [(from, source), (to, destination)] {
      guard let fields else { continue }
      var tag = found()
      for (field, value) in fields { tag[field] = value }
      #expect(try give(tag.encoded, to: vmm) == .done)
    }
    let (near, far) = try HelperServerTests.streamPair()
    #expect(try to.ask(.beginLoad(Bench.load), far) == .done)
    #expect(try from.ask(.beginSave(Bench.save()), near) == .done)
    try to.wait { event in
      switch event {
      case .failed, .arc: true
      default: false
      }
    }
    from.hangUp()
    _ = from.ending()
    return (to, there)
  }

  private static func told(_ vmm: TestVMM) -> [String] {
    vmm.events.compactMap { if case .tag(1, .loading, let text) = $0 { text } else { nil } }
  }

  @Test(
    "what both were told is compared before the first arc, and refuses a load as what they find out does",
    arguments: [
      (TagField.mac, "02:00:00:00:00:01", "02:00:00:00:00:02"), (.vlan, "1", "2"),
      (.eswitchMode, "switchdev", "legacy"), (.firmware, "28.41.1000", "28.39.2048"),
    ])
  func compared(field: TagField, here: String, there: String) throws {
    let (vmm, device) = try Self.load([(field, here)], [(field, there)])
    let failures = vmm.events.compactMap { if case .failed(let failure) = $0 { failure } else { nil } }
    #expect(failures.first?.code == .stream, "\(vmm.events)")
    #expect(failures.first?.text.contains("\(field.rawValue) is ") == true, "\(failures)")
    #expect(!vmm.events.contains { if case .arc = $0 { true } else { false } })
    #expect(device.state == .running && device.contents.withLock { $0.resets } == 0)
    vmm.hangUp()
    _ = vmm.ending()
  }

  @Test("what matches goes on, and what is not refused and peers may notice is told before the first arc")
  func warned() throws {
    let same: [(TagField, String)] = [(.mac, "02:00:00:00:00:01"), (.trust, "on")]
    var (vmm, _) = try Self.load(same, same)
    #expect(Self.told(vmm) == [] && !vmm.events.contains { if case .failed = $0 { true } else { false } })
    vmm.hangUp()
    (vmm, _) = try Self.load(same, [(.mac, "02:00:00:00:00:01"), (.trust, "off"), (.vlan, "7")])
    #expect(Self.told(vmm) == ["trust is different: on on the source, off on the destination"])
    vmm.hangUp()
    (vmm, _) = try Self.load(same, nil)
    let both = ["mac is missing: 02:00:00:00:00:01 on the source, unknown on the destination"]
    #expect(Self.told(vmm) == both + ["trust is missing: on on the source, unknown on the destination"])
    let first = vmm.events.firstIndex { if case .arc = $0 { true } else { false } }
    let last = vmm.events.lastIndex { if case .tag = $0 { true } else { false } }
    #expect(try #require(last) < (try #require(first)))
    vmm.hangUp()
    // A source that was told nothing has lost nothing that anybody knows of.
    (vmm, _) = try Self.load(nil, same)
    #expect(Self.told(vmm) == [])
    vmm.hangUp()
  }
}
