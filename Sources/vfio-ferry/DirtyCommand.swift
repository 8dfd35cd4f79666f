// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Glibc
internal import LinuxIO
internal import Migration
internal import Topology
internal import VFIO

struct DirtyCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "dirty", abstract: "Watch which guest memory devices write to, and how fast.",
    discussion: """
      For devices that a process holds (--pid): says whether they dirty memory faster than a link carries it, before \
      the VM is migrated. Their own log of what they write is turned on, read at each interval, and turned off at the \
      end, also on SIGINT, SIGTERM and SIGHUP. Nothing is bound or reset.

      A log has one user. A VMM that begins to migrate while this runs is refused its log, and one that migrates already \
      must not be watched: where the log is on, nothing is changed and the exit status is 3.

      What is counted are different pages in each interval: a page that was written a hundred times is sent once. \
      What vCPUs write is not in it, and comes on top.

      On a terminal a map of memory is drawn, otherwise a line for each interval, with -j an object for each.
      """)

  @OptionGroup var format: FormatOptions
  @OptionGroup var access: DeviceOptions
  @OptionGroup var options: DirtyOptions

  @Flag(
    help: """
      Watch nothing: turn off the log that a dirty which was killed has left on. Not while the VMM migrates, whose log it \
      would be.
      """)
  var turnOff = false

  @Argument(help: ArgumentHelp("The devices.", valueName: "DEV"))
  var devices: [String]

  func validate() throws {
    if devices.isEmpty { throw ValidationError("name a device") }
    if turnOff, !options.range.isEmpty || options.svg != nil {
      throw ValidationError("--turn-off watches nothing: leave out --range and --svg")
    }
  }

  func execute(_ console: Console) throws {
    let deviceAccess = DeviceAccess(way: access.way)
    let records = try deviceAccess.check(devices, toMigrate: false)
    if access.way.binds { throw CommandFailure.refused(Self.needsHolder) }
    if turnOff {
      for record in records { try end(logOf: record, deviceAccess, console) }
      return
    }
    let ranges = try options.ranges()
    let watch: DirtyWatch
    var map: MappedMemory
    do throws(DirtyBitmapError) {
      watch = try DirtyWatch(ranges: ranges)
    } catch {
      throw CommandFailure.misuse("--range: \(error)")
    }
    map = MappedMemory(layout: watch.layout)
    for range in ranges { try map.add(MappedRun(range, guest: range.lowerBound)) }
    let picture = try options.svg.map { path throws(CommandFailure) in
      try OutputFile(path, mode: 0o644, content: "a picture")
    }
    // Nothing is left of it once it was kept.
    defer { picture?.discard() }
    // Where the picture takes standard output, the rest goes to standard error.
    let console =
      picture?.isStandardOutput ?? false
      ? Console(out: console.err, err: console.err, showsProgress: console.showsProgress) : console
    try SignalDesk.open()
    let opened = try records.map { record throws(CommandFailure) in
      OpenDevice(record: record, device: try deviceAccess.open(record, console: console))
    }
    let tracking = try DirtyTracking(opened, options.wish, map)
    let display = DirtyDisplay(
      console: console, devices: tracking.reports, holder: access.way.pid, link: options.linkBytesPerSecond,
      json: format.wantsJSON ? format : nil,
      isLive: picture?.isStandardOutput ?? false ? false : isatty(STDOUT_FILENO) == 1 && !format.wantsJSON)
    let figures = try follow(tracking, watch, display)
    if let picture { try picture.keep(display.svg(figures)) }
  }

  static let needsHolder =
    "a device that is opened here has no guest: nothing is mapped for it, and it writes to nothing; name the process that "
    + "holds it with --pid"

  /// Reads until the count is reached, a signal comes, nobody takes the output, or the holder has ended; trackers are off
  /// when it returns or throws.
  private func follow(
    _ tracking: DirtyTracking, _ watch: consuming DirtyWatch, _ display: DirtyDisplay
  ) throws(CommandFailure) -> DirtyFigures {
    var watch = watch
    var display = display
    var bitmap = DirtyBitmap(layout: watch.layout)
    let signals = BlockingQueue<Int32>()
    SignalDesk.handle { signal in if signal != SIGUSR1 { signals.put(signal) } }
    defer { SignalDesk.keep() }
    let failure: CommandFailure?
    do throws(CommandFailure) {
      try tracking.start()
      display.begin()
      var before = monotonicMicroseconds()
      var deadline = before
      while options.count.map({ watch.figures.readings < $0 }) ?? true, Console.outputError == nil {
        // A reading that took longer than the interval is followed by a whole one.
        deadline = max(deadline + options.microseconds, before)
        if signals.take(until: deadline) != nil { break }
        try tracking.read(into: &bitmap)
        let now = monotonicMicroseconds()
        do throws(DirtyBitmapError) {
          try watch.take(&bitmap, microseconds: now - before)
        } catch {
          throw .failed("\(error)")
        }
        before = now
        display.show(watch.figures, tracking.reports)
        // A duplicate keeps the device of a process that has ended from being let go.
        if let pid = access.way.pid, Files.names(in: "/proc/\(pid)/fd").isEmpty {
          throw .failed("process \(pid) has ended")
        }
      }
      failure = nil
    } catch {
      failure = error
    }
    let problems = tracking.stop()
    if failure?.status != .refused { display.end(watch.figures) }
    if let failure {
      throw CommandFailure(
        status: failure.status, message: ([failure.message] + problems).joined(separator: "; "))
    }
    if !problems.isEmpty { throw .failed(problems.joined(separator: "; ")) }
    return watch.figures
  }

  private func end(logOf record: DeviceRecord, _ access: DeviceAccess, _ console: Console) throws(CommandFailure) {
    let device = try access.open(record, console: console)
    do throws(TrackerError) {
      try DeviceLogTracker.turnOff(device)
    } catch {
      throw .failed("\(record.name): \(error)")
    }
    console.line("\(record.name): its log is off")
  }
}
