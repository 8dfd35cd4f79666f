// SPDX-License-Identifier: Apache-2.0
import FakeDevices
import LinuxIO
import Migration
import Testing

@testable import Helper

@Suite("What a VMM keeps of its devices goes with one move", .serialized)
struct HelperBlobTests {
  private typealias Bench = HelperSessionBench

  @Test("blobs are forgotten when a move ends, however it does, and not when devices run again or a move did not begin")
  func session() {
    for fault in [nil, SessionFault.interrupted("the VMM aborts")] {
      var bench = Bench.at(.preCopy)
      if fault != nil { bench.ask(.abort) }
      bench.feed(.sessionEnded(bench.outcome(fault == nil ? .stop : .running, fault: fault)))
      #expect(bench.actions.count { $0 == .forgetBlobs } == 1)
    }
    var bench = Bench.at(.loading)
    bench.feed(.sessionEnded(bench.outcome(.stop)))
    #expect(bench.actions.contains(.forgetBlobs))
    bench = Bench.at(.resuming)
    bench.feed(.sessionEnded(bench.outcome(.running)))
    #expect(!bench.actions.contains(.forgetBlobs))
    bench = Bench(devices: [1])
    bench.finish(bench.ask(.beginSave(Bench.save())), .failure(HelperFailure(.refused, "no order stops it")))
    #expect(!bench.actions.contains(.forgetBlobs))
  }

  private static func vmm(_ device: FakeDevice) throws -> TestVMM {
    let vmm = try TestVMM([device])
    _ = try vmm.ask(.hello(major: 1, minor: 0, features: [], version: "test"))
    let wanted = HelperDevice(
      device: 1, name: device.name, space: 1, tracker: .auto, support: .none, iommufdNumber: nil, pageTable: nil,
      logLimits: nil)
    _ = try vmm.ask(.addDevice(wanted), SentFile(try Descriptor.inMemory(name: "stands for a device")))
    return vmm
  }

  private static func device(_ image: [UInt8]) -> FakeDevice {
    FakeDevice("0000:00:01.0", features: [.stopCopy, .p2p, .preCopy], image: image, script: Script())
  }

  private static func give(_ bytes: [UInt8], to vmm: TestVMM) throws {
    let file = SentFile(try Descriptor.inMemory(name: "a blob"))
    try file.descriptor.writeAll(bytes.span, at: 0)
    #expect(try vmm.ask(.blob(device: 1, offset: 0, size: UInt32(bytes.count)), file) == .done)
  }

  private static func begin(_ vmm: TestVMM, _ stream: SentFile) throws {
    #expect(try vmm.ask(.beginSave(Bench.save()), stream) == .done)
    try vmm.wait { if case .ready = $0 { true } else { false } }
  }

  @Test("a blob of a move that was aborted is not in the next; one given since then is", arguments: [false, true])
  func aborted(givesAnother: Bool) throws {
    let source = try Self.vmm(Self.device([1, 2, 3]))
    let destination = try Self.vmm(Self.device([]))
    try Self.begin(source, SentFile(try Descriptor.inMemory(name: "a stream")))
    try Self.give([7, 7, 7, 7], to: source)
    #expect(try source.ask(.abort) == .done)
    if givesAnother { try Self.give([8, 8], to: source) }
    let (near, far) = try HelperServerTests.streamPair()
    #expect(try destination.ask(.beginLoad(Bench.load), far) == .done)
    try Self.begin(source, near)
    for request in [HelperRequest.vcpusStopped, .quiesce(bytesSent: 0), .complete(bytesSent: 0)] {
      _ = try source.ask(request)
    }
    try destination.wait { $0 == .loaded }
    #expect(try destination.ask(.readBlob(device: 1)) == .blob(device: 1, size: givesAnother ? 2 : 0))
    source.hangUp()
    destination.hangUp()
  }
}
