// SPDX-License-Identifier: Apache-2.0
// Figures as ratios in one run: what a machine's speed is does not matter, only what is lost against plain C.
import CBaseline
import Engine
import Glibc
import LinuxIO
import Migration
import Transport

/// A device whose state is what a file holds: the engine reads the same descriptor as the C loop.
final class FileDevice: MigratableDevice, MigrationData {
  let name = DeviceName.node("/dev/bench")
  private let file: Descriptor

  init(_ file: consuming Descriptor) { self.file = file }

  func migrationFeatures() throws(DeviceError) -> MigrationFeatures { .stopCopy }
  func migrationState() throws(DeviceError) -> MigrationState { .running }
  func setMigrationState(_ state: MigrationState) throws(DeviceError) -> (any MigrationData)? {
    state == .stopCopy ? self : nil
  }
  func stopCopySize() throws(DeviceError) -> UInt64? { nil }
  func flush() throws(DeviceError) {}
  func reset() throws(DeviceError) {}
  func preCopyInfo() throws(DeviceError) -> PreCopyInfo { throw DeviceError(.preCopyInfo, .errno(.invalidArgument)) }
  func write(_ bytes: Span<UInt8>) throws(DeviceError) { throw DeviceError(.writeData, .errno(.invalidArgument)) }

  func read(into buffer: inout MutableSpan<UInt8>) throws(DeviceError) -> DataRead {
    do throws(SystemError) {
      let count = try file.read(into: &buffer)
      return count == 0 ? .end : .bytes(count)
    } catch {
      throw DeviceError(.readData, .errno(ErrorNumber(rawValue: error.errno)))
    }
  }
}

func fail(_ what: String) -> Never {
  print("bench: \(what)")
  exit(1)
}

/// A figure that the project promises.
/// - Returns: whether it holds.
func promise(_ holds: Bool, _ what: String) -> Bool {
  if !holds { print("  WORSE THAN PROMISED: \(what)") }
  return holds
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

func decimals(_ value: Double, _ places: Int = 2) -> String {
  let scale = places == 2 ? 100.0 : 10.0
  let scaled = Int((value * scale).rounded())
  let digits = String(scaled % Int(scale))
  return "\(scaled / Int(scale))." + String(repeating: "0", count: places - digits.count) + digits
}

/// A file in memory, filled so that nothing can be had cheaper by its content.
func filled(_ bytes: Int) throws -> Descriptor {
  let file = try Descriptor.inMemory(name: "state")
  var chunk = [UInt8](repeating: 0, count: 1 << 20)
  var seed: UInt64 = 1
  for offset in stride(from: 0, to: bytes, by: chunk.count) {
    for index in stride(from: 0, to: chunk.count, by: 8) {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      chunk[index] = UInt8(truncatingIfNeeded: seed >> 56)
    }
    try file.writeAll(chunk.span, at: offset)
  }
  return file
}

/// Moves the state through the engine, checksums included. Returns microseconds.
func move(_ source: borrowing Descriptor, to sink: borrowing Descriptor) throws -> Double {
  source.seek(to: 0)
  sink.seek(to: 0)
  let device = FileDevice(try source.duplicate())
  let described = SessionDevice(name: "bench", driver: "bench", features: .stopCopy, state: .running)
  let begin = monotonicMicroseconds()
  var configuration = SaveSession.Configuration()
  configuration.quiescing.vcpusAreStopped = true
  let plan = try QuiescePlan(devices: [described], reachability: .assumed(count: 1))
  let runner = try SessionRunner(
    devices: [device], channel: DescriptorChannel(owning: sink.duplicate()), checksum: .xxh3,
    buffers: configuration.buffers)
  let ended = try runner.run(SaveSession(devices: [described], plan: plan, configuration: configuration))
  let took = monotonicMicroseconds() - begin
  if ended.outcome?.fault != nil { fail("the engine failed: \(String(describing: ended.outcome))") }
  return Double(took)
}

func baseline(_ source: borrowing Descriptor, to sink: borrowing Descriptor, bytes: Int) -> Double {
  source.seek(to: 0)
  sink.seek(to: 0)
  let begin = monotonicMicroseconds()
  if baseline_copy(source.rawValue, sink.rawValue, 1 << 20) != bytes { fail("the C loop failed") }
  return Double(monotonicMicroseconds() - begin)
}

func benchMove(_ bytes: Int) throws -> Bool {
  let source = try filled(bytes)
  var ratios: [Double] = []
  var rates: [Double] = []
  // Both write over the same memory: what fresh pages cost a virtual machine would drown everything else.
  let sink = try filled(bytes)
  for round in 0..<12 {
    let mine = try move(source, to: sink)
    let plain = baseline(source, to: sink, bytes: bytes)
    // The first round only warms up.
    if round == 0 { continue }
    ratios.append(plain / mine)
    rates.append(Double(bytes) / mine)
  }
  print(
    "1 GiB of device state through the engine: \(decimals(median(ratios))) of a bare C read/write loop "
      + "(rounds \(ratios.sorted().map { decimals($0) }.joined(separator: " "))); \(decimals(median(rates) / 1000)) GB/s"
  )
  return promise(median(ratios) >= 0.9, "0.9 or more of the C loop")
}

func benchMemory() throws -> Bool {
  // A process of its own for each size, so that each has a peak of its own.
  var peaks: [Int] = []
  for mebibytes in [16, 256, 1024] {
    var kibibytes = 0
    let own = Files.link("/proc/self/exe") ?? ""
    if unsafe baseline_spawn(own, "--move=\(mebibytes)", &kibibytes) < 0 { fail("a child failed") }
    peaks.append(kibibytes)
  }
  print("peak memory while moving 16 MiB, 256 MiB, 1 GiB: \(peaks.map { "\($0 / 1024) MiB" }.joined(separator: ", "))")
  return promise(peaks[2] - peaks[0] < 1024, "memory that does not grow with the size of the state")
}

func benchStart(_ program: String) -> Bool {
  var mine: [Double] = []
  var plain: [Double] = []
  var peak = 0
  var ignored = 0
  for _ in 0..<60 {
    let first = unsafe baseline_spawn(program, "--version", &peak)
    let second = unsafe baseline_spawn("/bin/true", nil, &ignored)
    if first < 0 || second < 0 { fail("\(program) --version failed") }
    mine.append(Double(first))
    plain.append(Double(second))
  }
  print(
    "vfio-ferry --version as a whole process: \(decimals(median(zip(mine, plain).map { $0 / $1 }), 1)) times /bin/true "
      + "(\(Int(median(mine))) us against \(Int(median(plain))) us); peak memory \(decimals(Double(peak) / 1024, 1)) MiB"
  )
  let ratio = median(zip(mine, plain).map { $0 / $1 })
  let isQuick = promise(ratio <= 6, "at most 6 times /bin/true")
  return promise(peak < 16 << 10, "under 16 MiB") && isQuick
}

do {
  let arguments = CommandLine.arguments
  if let size = arguments.dropFirst().first, size.hasPrefix("--move="), let mebibytes = Int(size.dropFirst(7)) {
    _ = try move(try filled(mebibytes << 20), to: Descriptor.inMemory(name: "engine"))
  } else if arguments.dropFirst() == ["--quiesce"] {
    if try !benchQuiescing() { exit(1) }
  } else if arguments.dropFirst() == ["--trackers"] {
    if try !benchTrackers() { exit(1) }
  } else if arguments.dropFirst() == ["--dirty"] {
    if try !benchDirtyPages() { exit(1) }
  } else if arguments.dropFirst() == ["--loop"] {
    if try !benchLoop() { exit(1) }
  } else if arguments.dropFirst() == ["--simulation"] {
    if try !benchSimulation() { exit(1) }
  } else if arguments.count == 3, arguments[1] == "--helper" {
    if try !benchHelper(arguments[2]) { exit(1) }
  } else if let text = arguments.dropFirst().first, text.hasPrefix("--serve="),
    let times = DeviceTimes(text.dropFirst(8))
  {
    try serveTimedDevices(times)
  } else if arguments.dropFirst() == ["--echo"] {
    packets_echo(3, packets_status_reply())
  } else if arguments.count == 2 {
    // First, while this process is small: the kernel counts a child's peak from before its exec.
    let results = [benchStart(arguments[1]), try benchMove(1 << 30), try benchMemory()]
    if results.contains(false) { exit(1) }
  } else {
    fail(
      "usage: ferry-bench PATH-OF-VFIO-FERRY, --helper PATH-OF-VFIO-FERRY, --dirty, --loop, --simulation, or in the lab "
        + "--quiesce, --trackers")
  }
} catch {
  fail("\(error)")
}
