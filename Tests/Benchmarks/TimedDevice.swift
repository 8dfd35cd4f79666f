// SPDX-License-Identifier: Apache-2.0
// Devices behind a real helper's server that take a known time, and say how long they took.
import Glibc
import Helper
import LinuxIO
import Migration
import Synchronization
import Topology

/// What the devices of a server take.
struct DeviceTimes {
  /// Microseconds of each arc, and of each read.
  var arc: UInt32
  var read: UInt32
  /// Bytes of state that each device has after the stop.
  var bytes: Int

  init(arc: UInt32, read: UInt32, bytes: Int) {
    self.arc = arc
    self.read = read
    self.bytes = bytes
  }

  /// As it is said on a command line.
  init?(_ text: Substring) {
    let numbers = text.split(separator: ",").compactMap { Int($0) }
    guard numbers.count == 3 else { return nil }
    self.init(arc: UInt32(numbers[0]), read: UInt32(numbers[1]), bytes: numbers[2])
  }

  var text: String { "\(arc),\(read),\(bytes)" }
}

/// How long each device was at work in the stop, in a file that another process reads: nanoseconds of its arcs to a P2P
/// state, to STOP_COPY and to STOP, and of all reads.
@safe
final class DeviceRecord: @unchecked Sendable {
  // Unchecked because of the pointer: each word has one writer, and is read when that has said that it is done.
  enum Part: Int, CaseIterable { case p2p, stopCopy, reads, stop }
  private static let bytes = 4096
  private let words: UnsafeMutablePointer<UInt64>

  /// - Parameter file: mapped and not written to, because what is called for each arc must take no time.
  init(_ file: borrowing Descriptor) {
    if ftruncate(file.rawValue, Self.bytes) != 0 { fail("the record has no room") }
    let address = unsafe mmap(nil, Self.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.rawValue, 0)
    guard let address = unsafe address, unsafe address != MAP_FAILED else { fail("the record can't be mapped") }
    unsafe words = address.assumingMemoryBound(to: UInt64.self)
  }

  func put(_ nanoseconds: UInt64, _ part: Part, of device: Int) { unsafe words[Self.place(part, device)] = nanoseconds }

  /// 0 where it was not put.
  func nanoseconds(_ part: Part, of device: Int) -> UInt64 { unsafe words[Self.place(part, device)] }

  private static func place(_ part: Part, _ device: Int) -> Int { device * Part.allCases.count + part.rawValue }
}

final class TimedDevice: MigratableDevice {
  private struct Contents {
    var state = MigrationState.running
    var left = 0
    var reading: UInt64 = 0
  }

  let name: DeviceName
  private let index: Int
  private let times: DeviceTimes
  private let shared: DeviceRecord
  private let contents = Mutex(Contents())

  init(_ name: DeviceName, _ index: Int, _ times: DeviceTimes, _ shared: DeviceRecord) {
    self.name = name
    self.index = index
    self.times = times
    self.shared = shared
  }

  /// Does what takes a time, and says how many nanoseconds that was.
  private func timed(_ microseconds: UInt32, _ body: () -> Void = {}) -> UInt64 {
    let began = nanoseconds()
    if microseconds > 0 { usleep(microseconds) }
    body()
    return nanoseconds() - began
  }

  func migrationFeatures() throws(DeviceError) -> MigrationFeatures { [.stopCopy, .p2p, .preCopy] }
  func migrationState() throws(DeviceError) -> MigrationState { contents.withLock { $0.state } }
  func stopCopySize() throws(DeviceError) -> UInt64? { UInt64(times.bytes) }
  func flush() throws(DeviceError) {}
  func reset() throws(DeviceError) { throw DeviceError(.reset, .errno(.invalidArgument)) }

  func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    let took = timed(times.arc) {
      contents.withLock { contents in
        if state == .preCopy { contents.reading = 0 }
        if state == .stopCopy { contents.left = times.bytes }
        contents.state = state
      }
    }
    // Nobody asks what those took that take nothing.
    if times.arc == 0 { return state == .preCopy ? TimedData(self) : nil }
    switch state {
    case .preCopyP2P: shared.put(took, .p2p, of: index)
    case .stopCopy: shared.put(took, .stopCopy, of: index)
    case .stop: shared.put(took, .stop, of: index)
    default: break
    }
    return state == .preCopy ? TimedData(self) : nil
  }

  /// - Returns: how many bytes there are, up to so many. What they are is whatever the buffer has.
  fileprivate func read(_ room: Int) -> Int {
    guard (contents.withLock { $0.state == .stopCopy }) else { return 0 }
    var count = 0
    let took = timed(times.read) {
      contents.withLock { contents in
        count = min(room, contents.left)
        contents.left -= count
      }
    }
    let sum = contents.withLock { contents in
      contents.reading += took
      return contents.reading
    }
    if times.read > 0 { shared.put(sum, .reads, of: index) }
    return count
  }
}

private final class TimedData: MigrationData {
  private let device: TimedDevice
  init(_ device: TimedDevice) { self.device = device }

  func read(into buffer: inout MutableSpan<UInt8>) throws(DeviceError) -> DataRead {
    let count = device.read(buffer.count)
    return count == 0 ? .end : .bytes(count)
  }
  func write(_ bytes: Span<UInt8>) throws(DeviceError) { throw DeviceError(.writeData, .errno(.invalidArgument)) }
  func preCopyInfo() throws(DeviceError) -> PreCopyInfo { PreCopyInfo(initialBytes: 0, dirtyBytes: 0) }
}

/// The monotonic clock.
func nanoseconds() -> UInt64 {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A host that makes such a device of whatever it is given.
private final class TimedHost: HelperHost {
  private let times: DeviceTimes
  private let shared: DeviceRecord

  init(_ times: DeviceTimes, _ shared: DeviceRecord) {
    self.times = times
    self.shared = shared
  }

  func adopt(
    _ device: HelperDevice, _ descriptors: consuming ReceivedDescriptors
  ) throws(HelperFailure) -> AdoptedDevice {
    let timed = TimedDevice(device.name, Int(device.device) - 1, times, shared)
    return AdoptedDevice(device: timed, driver: "bench", tag: []) { _ in [] }
  }

  func reachability(of devices: [DeviceName]) -> Reachability { .assumed(count: devices.count) }
}

/// Serves whoever has the other end of descriptor 3; the record is descriptor 4.
func serveTimedDevices(_ times: DeviceTimes) throws {
  let file = Descriptor(owning: 4, subject: "the record")
  let shared = DeviceRecord(file)
  let socket = try PacketSocket(inherited: 3, subject: "descriptor 3")
  let server = try HelperServer(socket: socket, host: TimedHost(times, shared), version: "bench")
  exit(server.run().status)
}
