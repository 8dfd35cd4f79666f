// SPDX-License-Identifier: Apache-2.0
import Foundation
import Migration
import Testing

@testable import Helper
@testable import Topology
@testable import vfio_ferry

/// The pages as they are published, held against the text format's rules and those that `promtool check metrics` complains of.
struct MetricsFormatTests {
  private static func monitorPage() throws -> String {
    let metrics = MonitorMetrics()
    let sightings = try ["mtty", "vfio-pci", "vfio-pci"].enumerated().map { index, driver in
      try #require(
        DeviceSighting(
          UdevDevice(
            path: "/sys/devices/x\(index)/vfio-dev/vfio\(index)", subsystem: "vfio-dev",
            properties: ["VFIO_FERRY_DRIVER": driver]), isPhysical: false))
    }
    let function = try #require(
      DeviceSighting(UdevDevice(path: "/sys/devices/0000:3b:00.0", subsystem: "pci"), isPhysical: true))
    metrics.begin(sightings)
    for (action, sighting) in [("add", sightings[0]), ("add", sightings[0]), ("bind", function), ("odd", function)] {
      metrics.take(.init(action: action, sighting: sighting, sequence: 1), sightings + [function])
    }
    metrics.countOverrun()
    return metrics.page { _ in [sightings[0].path: "running"] }
  }

  private static func helperPage() -> String {
    let metrics = HelperMetrics(name: "a\"b", version: "1")
    metrics.take(devices: 2, hung: 1)
    let status = HelperStatus(
      phase: .preCopy, devices: 2, hung: 1, vcpusAreStopped: false, bytes: 1234, expectedBytes: nil, memoryBytes: 4096)
    let events: [HelperEvent] = [
      .phase(.preCopy), .decision(HelperEstimate(decision: nil, dirty: 17)), .phase(.quiescing),
      .arc(device: 1, from: .preCopy, to: .preCopyP2P, error: nil, microseconds: 250),
      .arc(device: 1, from: .preCopyP2P, to: .stopCopy, error: nil, microseconds: 20_000_000),
      .arc(device: 2, from: .preCopyP2P, to: .stopCopy, error: .inputOutput, microseconds: 5),
      .hung(device: 2, .quiescing, microseconds: 1, ""), .linkLost(.stopped, ""), .tracker(device: 1, .preCopy, ""),
      .failed(HelperFailure(.link, "")), .phase(.goingBack), .phase(.setup),
    ]
    for event in events { metrics.take(event) { status } }
    return metrics.page
  }

  /// The metrics of a page, in their order, having checked its form.
  private func families(_ page: String) throws -> [String: (type: String, samples: [(name: String, value: String)])] {
    #expect(page.hasSuffix("\n") && !page.hasSuffix("\n\n") && !page.contains("\r"))
    var families: [String: (type: String, samples: [(name: String, value: String)])] = [:]
    var current = ""
    var seen: Set<String> = []
    let sample = try Regex(
      #"^([a-z][a-z0-9_]*)(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? ([0-9]+(?:\.[0-9]+)?)$"#
    )
    for line in page.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
      let words = line.split(separator: " ", maxSplits: 3)
      if line.hasPrefix("# HELP ") {
        current = String(words[2])
        #expect(families[current] == nil, "\(current) twice")
        #expect(words.count == 4 && words[3].hasSuffix("."), "\(line)")
      } else if line.hasPrefix("# TYPE ") {
        #expect(words[2] == current && ["counter", "gauge", "histogram"].contains(words[3]), "\(line)")
        families[current] = (String(words[3]), [])
      } else {
        let match = try #require(try sample.wholeMatch(in: line), "\(line)")
        let name = String(try #require(match.output[1].substring))
        #expect(name == current || (families[current]?.type == "histogram" && name.hasPrefix(current + "_")), "\(line)")
        #expect(seen.insert(String(line[..<(line.lastIndex(of: " ") ?? line.endIndex)])).inserted, "\(line) twice")
        families[current]?.samples.append(
          (String(line.split(separator: " ").dropLast().joined(separator: " ")), String(words[words.count - 1])))
      }
    }
    for (name, family) in families {
      #expect(name.hasPrefix("vfio_ferry_"))
      #expect((family.type == "counter") == name.hasSuffix("_total"), "\(name)")
      #expect(family.type == "histogram" || !["_bucket", "_count", "_sum"].contains { name.hasSuffix($0) }, "\(name)")
      #expect(
        !["_ms", "_us", "_milliseconds", "_kilobytes", "_gauge", "_counter"].contains { name.contains($0) }, "\(name)")
      #expect(!family.samples.isEmpty)
    }
    return families
  }

  @Test("the monitor's page is as Prometheus wants it, and counts what there is")
  func monitor() throws {
    let page = try Self.monitorPage()
    _ = try families(page)
    for line in [
      #"vfio_ferry_devices{driver="mtty",state="running"} 1"#,
      #"vfio_ferry_devices{driver="vfio-pci",state="unknown"} 2"#,
      #"vfio_ferry_physical_functions{driver="none"} 1"#,
      #"vfio_ferry_monitor_events_total{action="add",kind="device"} 2"#,
      #"vfio_ferry_monitor_events_total{action="remove",kind="device"} 0"#,
      #"vfio_ferry_monitor_events_total{action="other",kind="pf"} 1"#, "vfio_ferry_monitor_overruns_total 1",
    ] { #expect(page.contains("\n\(line)\n"), "\(line) in \(page)") }
  }

  @Test("a helper's page is as Prometheus wants it, and every line of it says whose it is")
  func helper() throws {
    let page = Self.helperPage()
    let all = try families(page)
    #expect(all["vfio_ferry_helper_last_stop_seconds"] != nil)
    for line in page.split(separator: "\n") where !line.hasPrefix("#") { #expect(line.contains(#"{helper="a\"b""#)) }
    func value(_ name: String, _ labels: String = "") -> String? {
      let line = page.split(separator: "\n").first {
        $0.hasPrefix("vfio_ferry_helper_\(name){helper=\"a\\\"b\"\(labels)} ")
      }
      return line?.split(separator: " ").last.map(String.init)
    }
    #expect(value("phase", #",phase="setup""#) == "1" && value("phase", #",phase="going back""#) == "0")
    #expect(value("devices") == "2" && value("hung_devices") == "1" && value("hangs_total") == "1")
    #expect(value("sessions_total", #",kind="save""#) == "1" && value("sessions_total", #",kind="load""#) == "0")
    #expect(value("state_bytes") == "1234" && value("memory_bytes") == "4096" && value("dirty_pages") == "17")
    #expect(value("arc_duration_seconds_bucket", #",to="pre-copy-p2p",le="0.00025""#) == "1")
    #expect(value("arc_duration_seconds_bucket", #",to="stop-copy",le="10""#) == "0")
    #expect(value("arc_duration_seconds_bucket", #",to="stop-copy",le="+Inf""#) == "1")
    #expect(value("arc_duration_seconds_sum", #",to="stop-copy""#) == "20")
    for name in ["arc_failures", "failures", "link_losses", "trackers_replaced", "rounds"] {
      #expect(value("\(name)_total") == "1", "\(name)")
    }
  }

  @Test("the document has every metric by its name and type, and no other")
  func document() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let text = try String(contentsOf: root.appendingPathComponent("docs/metrics.md"), encoding: .utf8)
    let rows = text.split(separator: "\n").filter { $0.hasPrefix("| `vfio_ferry_") }
    let documented = rows.map { row in
      let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      return "\(cells[0].prefix { $0 != "{" }.filter { $0 != "`" }) \(cells[1])"
    }
    let published = try families(Self.monitorPage()).merging(families(Self.helperPage())) { first, _ in first }
    #expect(documented.sorted() == published.map { "\($0.key) \($0.value.type)" }.sorted())
  }
}
