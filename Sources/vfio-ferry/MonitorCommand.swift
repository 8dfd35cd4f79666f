// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Metrics
internal import Topology

struct MonitorCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "monitor",
    abstract: "Print what happens: VFIO devices and physical functions appear, leave, change. Binds nothing.",
    discussion: """
      A line for each event, once udev has dealt with it: what has happened, to what kind of thing (device, group, mdev, pf, \
      function), its name, and what is known of it. It needs udevd. With --json a line has an object.

      Where events come faster than they are printed, some may be lost: then it says so, looks at all devices, and prints \
      what has changed meanwhile. It ends with SIGINT or SIGTERM, and when nobody reads what it prints any more.
      """)

  @OptionGroup var format: FormatOptions

  @Flag(help: "Begin with what there is already.")
  var existing = false

  @Option(
    help: ArgumentHelp(
      "Room for events that wait. More than the kernel allows everybody takes CAP_NET_ADMIN.", valueName: "BYTES"))
  var buffer: Int32 = 16 << 20

  @OptionGroup(title: "Metrics")
  var metrics: MetricsOptions

  func validate() throws {
    if buffer <= 0 { throw ValidationError("--buffer takes a number of bytes") }
  }

  func execute(_ console: Console) throws {
    try SignalDesk.open()
    do {
      try watch(console)
    } catch let problem as UdevLibrary.Problem {
      throw CommandFailure.failed("nothing can be watched: \(problem)")
    } catch let error as SystemError {
      throw CommandFailure.failed("\(error)")
    }
  }

  private func watch(_ console: Console) throws {
    let bell = try Doorbell()
    SignalDesk.handle { _ in bell.ring() }
    defer { SignalDesk.keep() }
    let udev = try UdevLibrary(subsystems: DeviceWatch.subsystems, room: buffer)
    var watch = DeviceWatch()
    _ = try Self.look(at: udev, &watch)
    let counts = MonitorMetrics()
    counts.begin(watch.sightings)
    let service = try service(counts, console)
    defer { service?.end() }
    if existing { for sighting in watch.sightings { say(.existing(sighting), console) } }
    console.note("vfio-ferry monitor: listening")
    while SignalDesk.end == nil, Console.outputError == nil {
      switch udev.next() {
      case .nothing: if try bell.wait(for: udev.descriptor, writes: false).contains(.bell) { bell.answer() }
      case .event(let event):
        let device = event.device
        guard let change = watch.take(event, isPhysical: Self.isPhysical(device), isThere: { udev.hasNow(device) })
        else {
          continue
        }
        if service != nil { counts.take(change, watch.sightings) }
        say(.change(change), console)
      case .lost(let error):
        counts.countOverrun()
        say(.overrun(error), console)
        for change in try Self.look(at: udev, &watch) {
          if service != nil { counts.take(change, watch.sightings) }
          say(.change(change), console)
        }
      }
    }
  }

  /// Metrics on their way out; nil where none are wanted.
  private func service(_ counts: MonitorMetrics, _ console: Console) throws -> MetricsService? {
    guard let places = try metrics.places() else { return nil }
    try metrics.begin(places)
    let states = StateReader()
    return try MetricsService(places) {
      counts.page { states.states(of: $0) }
    } log: { line in
      console.note("vfio-ferry monitor: metrics: \(line)")
    }
  }

  private func say(_ line: MonitorLine, _ console: Console) {
    if format.wantsJSON { console.json(line.json, format) } else { console.line(line.text) }
  }

  /// Looks at all devices.
  /// - Returns: what has changed since it was known.
  private static func look(at udev: borrowing UdevLibrary, _ watch: inout DeviceWatch) throws -> [DeviceWatch.Change] {
    // Before anything is looked at: what happens from then on is told by an event.
    let sequence = Files.text("/sys/kernel/uevent_seqnum").flatMap { UInt64($0) } ?? 0
    return watch.compare(try udev.devices().map { ($0, isPhysical($0)) }, asOf: sequence)
  }

  /// Whether a device is a PCI function that can have virtual ones.
  private static func isPhysical(_ device: UdevDevice) -> Bool {
    guard device.subsystem == "pci", let most = Files.text("\(device.path)/sriov_totalvfs") else { return false }
    return UInt32(most).map { $0 > 0 } ?? false
  }
}
